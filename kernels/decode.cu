// One decode step of GPT-2: five kernels a layer, then the head. FP16 activations, FP16 or INT8 weights, FP32 sums.
//
// A block owns a tile of a linear layer's outputs for all sequences of the batch, and its warps share out the inputs. A
// warp has all of its weights in flight, in registers, before it looks at anything that the kernel before it computes.
// From compute capability 9.0 on, a kernel launched as a programmatic dependent starts while its predecessor still runs,
// so the weights stream in across kernels; on older chips the two lines that do so compile to nothing.
//
// The products run on tensor cores: eight or sixteen outputs by eight sequences. Four lanes hold a row there, of two
// neighbouring inputs each, but a sum may be taken in any order: here a lane holds the neighbours of one 16-byte load, of
// weights and activations alike, and no fragment is ever moved between lanes.
//
// Nothing here needs more than compute capability 7.5. Compiled with the macros of shape.py's `Shape`.

#include "half.cuh"

#include "choice.cuh"
#include "decode.cuh"

#define HEADS (WIDTH / HEAD_WIDTH)

constexpr int kWarps = WARPS;            // of a block of a layer with WIDTH inputs
constexpr int kWideWarps = WIDE_WARPS;   // of one with 4 * WIDTH
constexpr int kEights = (BATCH + 7) / 8;  // groups of eight sequences
constexpr int kWeightRoom = 48, kInputRoom = 48;  // registers of a thread for weights and for activations in flight
constexpr float kEpsilon = 1e-5f;

// ---- the smallest pieces

__device__ constexpr int min_of(int a, int b) { return a < b ? a : b; }

__device__ __forceinline__ uint4 load_activations(const half_bits* from) { return *reinterpret_cast<const uint4*>(from); }

// ---- tensor cores

// sums += left * right: 16 outputs by 16 inputs, and these by eight sequences. A lane holds the outputs lane / 4 (low) and
// eight further on (high), the sequence lane / 4, and four inputs that are the same ones on both sides; of the sums, low
// outputs come first, for the sequences 2 * (lane % 4) and its neighbour.
__device__ __forceinline__ void multiply(float (&sums)[4], unsigned low_0, unsigned high_0, unsigned low_1, unsigned high_1,
                                         unsigned right_0, unsigned right_1) {
  const unsigned left[4] = {low_0, high_0, low_1, high_1}, right[2] = {right_0, right_1};
  multiply_16(sums, left, right);
}

// ---- weights, [outputs, inputs], as they are stored

struct Fp16 {
  typedef half_bits Number;
  static constexpr int kPacked = 8;  // numbers in 16 bytes
  static constexpr int kNormRows = FP16_NORM_ROWS, kResidualRows = FP16_RESIDUAL_ROWS;  // outputs of a block
  const Number* weight;

  __device__ __forceinline__ float scale(int) const { return 1.0f; }

  static __device__ __forceinline__ void to_pairs(const uint4& packed, unsigned (&pairs)[4]) {
    pairs[0] = packed.x, pairs[1] = packed.y, pairs[2] = packed.z, pairs[3] = packed.w;
  }
};

struct Int8 {
  typedef signed char Number;
  static constexpr int kPacked = 16;
  static constexpr int kNormRows = INT8_NORM_ROWS, kResidualRows = INT8_RESIDUAL_ROWS;
  const Number* weight;
  const float* scales;  // of each output

  __device__ __forceinline__ float scale(int output) const { return scales[output]; }

  static __device__ __forceinline__ void to_pairs(const uint4& packed, unsigned (&pairs)[8]) {
    const unsigned words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const unsigned bytes = words[w] ^ 0x80808080u;
      pairs[2 * w] = half_pair(bytes, 0x4140);
      pairs[2 * w + 1] = half_pair(bytes, 0x4342);
    }
  }
};

// ---- a tile of a linear layer: kRows outputs, a multiple of 8, of all sequences

template <class Weights, int kInputs, int kOwnWarps, int kRows>
struct Tile {
  static constexpr int kThreads = kOwnWarps * 32;
  static constexpr int kGroups = kRows / 8;            // of eight outputs
  static constexpr int kProducts = (kGroups + 1) / 2;  // of sixteen, the last perhaps half empty
  static constexpr int kChains = kProducts * kEights == 1 ? 2 : 1;  // of sums, so that two products are always under way
  static constexpr int kPairs = Weights::kPacked / 2;   // of inputs: a lane's share of a chunk
  static constexpr int kPieces = Weights::kPacked / 8;  // the same in 16-byte loads of activations
  static constexpr int kChunk = 4 * Weights::kPacked;   // inputs
  static constexpr int kChunks = (kInputs + kChunk * kOwnWarps - 1) / (kChunk * kOwnWarps);  // of a warp
  static constexpr int kAhead = min_of(kChunks, kWeightRoom / (4 * kGroups));                // chunks in flight
  static constexpr int kTogether = min_of(kChunks, kInputRoom / (4 * kEights * kPieces));    // and of activations
  static constexpr int kResults = (kRows * BATCH + kThreads - 1) / kThreads;                 // of a thread
  typedef float Sums[kProducts][kEights][kChains][4];
  typedef float Partial[kOwnWarps][BATCH][kRows + 4];  // padded, so that a warp's stores meet in no bank

  uint4 weights[kAhead][kGroups];
  const typename Weights::Number* rows[kGroups];

  // The lane's first input of a chunk; beyond kInputs, which is a multiple of 32, there is none.
  static __device__ __forceinline__ int input(int chunk) {
    return ((chunk * kOwnWarps + warp()) * 4 + lane() % 4) * Weights::kPacked;
  }
  static __device__ __forceinline__ bool has(int chunk) {
    return kInputs % (kChunk * kOwnWarps) == 0 || input(chunk) < kInputs;
  }

  // Outputs past the last are the last one again, and nobody's result.
  __device__ __forceinline__ void point(const Weights& from, int first, int outputs) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g)
      rows[g] = from.weight + static_cast<long long>(min(first + lane() / 4 + 8 * g, outputs - 1)) * kInputs;
  }

  __device__ __forceinline__ void fetch(int chunk) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g)
      weights[chunk % kAhead][g] = has(chunk) ? load_weights(rows[g] + input(chunk)) : make_uint4(0, 0, 0, 0);
  }

  __device__ __forceinline__ void fetch_first() {
#pragma unroll
    for (int c = 0; c < kAhead; ++c) fetch(c);
  }

  __device__ __forceinline__ void multiply_chunk(int chunk, const uint4 (&x)[kEights][kPieces], Sums& sums) {
#pragma unroll
    for (int m = 0; m < kProducts; ++m) {
      unsigned low[kPairs], high[kPairs] = {};
      Weights::to_pairs(weights[chunk % kAhead][2 * m], low);
      if (2 * m + 1 < kGroups) Weights::to_pairs(weights[chunk % kAhead][2 * m + 1], high);
#pragma unroll
      for (int e = 0; e < kEights; ++e)
#pragma unroll
        for (int p = 0; p < kPieces; ++p) {
          const int i = 4 * p;
          multiply(sums[m][e][0], low[i], high[i], low[i + 1], high[i + 1], x[e][p].x, x[e][p].y);
          multiply(sums[m][e][kChains - 1], low[i + 2], high[i + 2], low[i + 3], high[i + 3], x[e][p].z, x[e][p].w);
        }
    }
  }

  // A thread's result: kRows neighbours have a sequence's.
  static __device__ __forceinline__ int row(int result) { return (threadIdx.x + result * kThreads) % kRows; }
  static __device__ __forceinline__ int sequence(int result) { return (threadIdx.x + result * kThreads) / kRows; }

  // What all warps found, added up: each thread gets its results.
  static __device__ __forceinline__ void combine(const Sums& sums, Partial& partial, float (&results)[kResults]) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g)
#pragma unroll
      for (int e = 0; e < kEights; ++e)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int sequence = 8 * e + lane() % 4 * 2 + i;
          float sum = sums[g / 2][e][0][g % 2 * 2 + i];
          if (kChains > 1) sum += sums[g / 2][e][kChains - 1][g % 2 * 2 + i];
          if (sequence < BATCH) partial[warp()][sequence][8 * g + lane() / 4] = sum;
        }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < kResults; ++r) {
      results[r] = 0.0f;
      if (sequence(r) < BATCH)
#pragma unroll
        for (int w = 0; w < kOwnWarps; ++w) results[r] += partial[w][sequence(r)][row(r)];
    }
  }
};

// What a thread needs to finish its results of a tile that begins at an output: fetched early.
template <class Tile>
struct Finish {
  float bias[Tile::kResults], scale[Tile::kResults];

  template <class Weights>
  __device__ __forceinline__ void fetch(const Weights& weights, const half_bits* bias_from, int first, int outputs) {
#pragma unroll
    for (int r = 0; r < Tile::kResults; ++r) {
      const int output = min(first + Tile::row(r), outputs - 1);
      bias[r] = to_float(bias_from[output]);
      scale[r] = weights.scale(output);
    }
  }

  // Calls take(index of the thread's result, sequence, output, result) for each that there is.
  template <class Take>
  __device__ __forceinline__ void operator()(const float (&sums)[Tile::kResults], int first, int outputs, Take take) const {
#pragma unroll
    for (int r = 0; r < Tile::kResults; ++r) {
      const int output = first + Tile::row(r);
      if (Tile::sequence(r) < BATCH && output < outputs)
        take(r, Tile::sequence(r), output, fmaf(sums[r], scale[r], bias[r]));
    }
  }
};

// The sequence that a lane holds of each eight; past the last it is the last one again, and nobody's result.
__device__ __forceinline__ int held_sequence(int eight) { return min(8 * eight + lane() / 4, BATCH - 1); }

// ---- a layer norm before a tile

template <class Weights, int kRows>
struct NormTile {
  typedef Tile<Weights, WIDTH, kWarps, kRows> Layer;
  static constexpr int kChunks = Layer::kChunks, kPieces = Layer::kPieces;
  static_assert(Layer::kAhead == kChunks, "registers hold a warp's share");
  static_assert(WIDTH / 4 <= kWarps * 32, "a thread brings eight numbers of gamma or beta");

  Layer layer;
  uint4 parameters;                    // the thread's share of gamma, then beta
  uint4 x[kChunks][kEights][kPieces];  // the rows: first as they are, then normalised
  float origin[kEights];               // the first number of each row

  __device__ __forceinline__ void fetch(const Weights& from, int first, int outputs, const half_bits* gamma,
                                        const half_bits* beta) {
    layer.point(from, first, outputs);
    layer.fetch_first();
    const int first_number = 8 * threadIdx.x;
    if (first_number < 2 * WIDTH)
      parameters = load_parameters(first_number < WIDTH ? gamma + first_number : beta + (first_number - WIDTH));
  }

  __device__ __forceinline__ void load(const half_bits* hidden) {
#pragma unroll
    for (int e = 0; e < kEights; ++e) {
      const half_bits* row = hidden + held_sequence(e) * WIDTH;
      origin[e] = to_float(*row);
#pragma unroll
      for (int c = 0; c < kChunks; ++c)
#pragma unroll
        for (int p = 0; p < kPieces; ++p)
          x[c][e][p] = Layer::has(c) ? load_activations(row + Layer::input(c) + 8 * p) : make_uint4(0, 0, 0, 0);
    }
  }

  // Mean and variance in one pass over the distances from `origin`. The origin is one of the numbers, so its distance from
  // the mean, squared, is at most WIDTH times the variance: the difference of squares loses that factor and no more.
  __device__ __forceinline__ void normalise() {
    __shared__ uint4 shared_parameters[WIDTH / 4];
    __shared__ float2 moments[kWarps][kEights * 8];
    if (threadIdx.x < WIDTH / 4) shared_parameters[threadIdx.x] = parameters;
#pragma unroll
    for (int e = 0; e < kEights; ++e) {
      float sum = 0.0f, squares = 0.0f;
#pragma unroll
      for (int c = 0; c < kChunks; ++c)
        if (Layer::has(c))
#pragma unroll
          for (int p = 0; p < kPieces; ++p) {
            float values[8];
            unpack(x[c][e][p], values);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
              const float distance = values[i] - origin[e];
              sum += distance;
              squares = fmaf(distance, distance, squares);
            }
          }
#pragma unroll
      for (int step = 1; step < 4; step *= 2) {
        sum += __shfl_xor_sync(FULL_WARP, sum, step);
        squares += __shfl_xor_sync(FULL_WARP, squares, step);
      }
      if (lane() % 4 == 0) moments[warp()][8 * e + lane() / 4] = make_float2(sum, squares);
    }
    __syncthreads();
    float mean[kEights], scale[kEights];
#pragma unroll
    for (int e = 0; e < kEights; ++e) {
      float sum = 0.0f, squares = 0.0f;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const float2 part = moments[w][8 * e + lane() / 4];
        sum += part.x;
        squares += part.y;
      }
      const float shift = sum * (1.0f / WIDTH);
      mean[e] = origin[e] + shift;
      scale[e] = rsqrtf(fmaxf(squares * (1.0f / WIDTH) - shift * shift, 0.0f) + kEpsilon);
    }
#pragma unroll
    for (int c = 0; c < kChunks; ++c)
#pragma unroll
      for (int p = 0; p < kPieces; ++p) {
        const int piece = Layer::has(c) ? Layer::input(c) / 8 + p : 0;  // beyond the last input any will do: its weight is 0
        float gamma[8], beta[8];
        unpack(shared_parameters[piece], gamma);
        unpack(shared_parameters[WIDTH / 8 + piece], beta);
#pragma unroll
        for (int e = 0; e < kEights; ++e) {
          float values[8];
          unpack(x[c][e][p], values);
#pragma unroll
          for (int i = 0; i < 8; ++i) values[i] = fmaf((values[i] - mean[e]) * scale[e], gamma[i], beta[i]);
          x[c][e][p] = pack(values);
        }
      }
  }
};

// ---- a layer norm and a linear layer; where its results go is the caller's

template <class Weights>
struct NormLinear {
  static constexpr int kRows = Weights::kNormRows;
  typedef NormTile<Weights, kRows> Norm;
  typedef typename Norm::Layer Layer;

  Norm norm;
  Finish<Layer> finish;
  int outputs;

  __device__ __forceinline__ void fetch(const Weights& weights, int all_outputs, const half_bits* gamma,
                                        const half_bits* beta, const half_bits* bias) {
    outputs = all_outputs;
    norm.fetch(weights, blockIdx.x * kRows, outputs, gamma, beta);
    finish.fetch(weights, bias, blockIdx.x * kRows, outputs);
  }

  // Of rows that are there, not yet normalised. `take` as of `Finish`.
  template <class Take>
  __device__ __forceinline__ void run(Take take) {
    __shared__ typename Layer::Partial partial;
    norm.normalise();
    typename Layer::Sums sums = {};
#pragma unroll
    for (int c = 0; c < Layer::kChunks; ++c) norm.layer.multiply_chunk(c, norm.x[c], sums);
    float results[Layer::kResults];
    Layer::combine(sums, partial, results);
    finish(results, blockIdx.x * kRows, outputs, take);
  }
};

__device__ __forceinline__ int checked_position(const long long* position, int length) {
  const long long at = *position;
  if (at < 0 || at >= length) __trap();  // the cache has no such row
  return static_cast<int>(at);
}

// Output `output` of the QKV product goes to the query or, at `at`, into the cache: [batch, heads, length, head width].
__device__ __forceinline__ void store_qkv(int sequence, int output, float result, int at, int length, half_bits* query,
                                          half_bits* keys, half_bits* values) {
  const int column = output % WIDTH, part = output / WIDTH;
  const long long row = (static_cast<long long>(sequence) * HEADS + column / HEAD_WIDTH) * length + at;
  half_bits* to = part == 0 ? query + sequence * WIDTH + column
                            : (part == 1 ? keys : values) + row * HEAD_WIDTH + column % HEAD_WIDTH;
  *to = to_half(result);
}

template <class Weights>
__device__ __forceinline__ void norm_qkv(const Weights& weights, const half_bits* hidden, const long long* position,
                                         const half_bits* gamma, const half_bits* beta, const half_bits* bias,
                                         half_bits* keys, half_bits* values, half_bits* query, int length) {
  release_next();
  NormLinear<Weights> layer;
  layer.fetch(weights, 3 * WIDTH, gamma, beta, bias);
  const int at = checked_position(position, length);
  await_previous();
  layer.norm.load(hidden);
  layer.run([&](int, int sequence, int output, float result) {
    store_qkv(sequence, output, result, at, length, query, keys, values);
  });
}

// The same behind the embedding, which the first block also leaves in `hidden`.
template <class Weights>
__device__ __forceinline__ void embed_norm_qkv(const Weights& weights, const long long* tokens, const long long* position,
                                               const half_bits* token_embedding, const half_bits* position_embedding,
                                               const half_bits* gamma, const half_bits* beta, const half_bits* bias,
                                               half_bits* keys, half_bits* values, half_bits* hidden, half_bits* query,
                                               int length, int vocabulary) {
  typedef typename NormLinear<Weights>::Layer Layer;
  release_next();
  NormLinear<Weights> layer;
  layer.fetch(weights, 3 * WIDTH, gamma, beta, bias);
  await_previous();
  const int at = checked_position(position, length);
#pragma unroll
  for (int e = 0; e < kEights; ++e) {
    const int sequence = held_sequence(e);
    const long long token = tokens[sequence];
    if (token < 0 || token >= vocabulary) __trap();
    const half_bits *word = token_embedding + token * WIDTH, *place = position_embedding + static_cast<long long>(at) * WIDTH;
    layer.norm.origin[e] = to_float(to_half(to_float(*word) + to_float(*place)));
#pragma unroll
    for (int c = 0; c < Layer::kChunks; ++c)
#pragma unroll
      for (int p = 0; p < Layer::kPieces; ++p) {
        layer.norm.x[c][e][p] = make_uint4(0, 0, 0, 0);
        if (!Layer::has(c)) continue;
        const int from = Layer::input(c) + 8 * p;
        float sums[8], others[8];
        unpack(load_activations(word + from), sums);
        unpack(load_activations(place + from), others);
#pragma unroll
        for (int i = 0; i < 8; ++i) sums[i] += others[i];
        layer.norm.x[c][e][p] = pack(sums);  // rounded as it is stored, so that every layer sees the same embedding
        if (blockIdx.x == 0 && 8 * e + lane() / 4 < BATCH)
          *reinterpret_cast<uint4*>(hidden + sequence * WIDTH + from) = layer.norm.x[c][e][p];
      }
  }
  layer.run([&](int, int sequence, int output, float result) {
    store_qkv(sequence, output, result, at, length, query, keys, values);
  });
}

template <class Weights>
__device__ __forceinline__ void norm_fc1_gelu(const Weights& weights, const half_bits* hidden, const half_bits* gamma,
                                              const half_bits* beta, const half_bits* bias, half_bits* out) {
  release_next();
  NormLinear<Weights> layer;
  layer.fetch(weights, 4 * WIDTH, gamma, beta, bias);
  await_previous();
  layer.norm.load(hidden);
  layer.run([&](int, int sequence, int output, float result) {
    out[sequence * 4 * WIDTH + output] = to_half(gelu(result));
  });
}

// ---- a linear layer of WIDTH outputs and the residual connection
// `out` may be `residual`: each element is read and written by the same thread.

template <int kInputs, int kOwnWarps, class Weights>
__device__ __forceinline__ void linear_residual(const Weights& weights, const half_bits* x, const half_bits* bias,
                                                const half_bits* residual, half_bits* out) {
  typedef Tile<Weights, kInputs, kOwnWarps, Weights::kResidualRows> Layer;
  __shared__ typename Layer::Partial partial;
  release_next();
  const int first = blockIdx.x * Weights::kResidualRows;
  Layer layer;
  Finish<Layer> finish;
  layer.point(weights, first, WIDTH);
  layer.fetch_first();
  finish.fetch(weights, bias, first, WIDTH);
  await_previous();
  float before[Layer::kResults];
#pragma unroll
  for (int r = 0; r < Layer::kResults; ++r)
    before[r] = to_float(residual[min(Layer::sequence(r), BATCH - 1) * WIDTH + first + Layer::row(r)]);
  __syncwarp();  // keeps those loads from being put off
  typename Layer::Sums sums = {};
#pragma unroll
  for (int start = 0; start < Layer::kChunks; start += Layer::kTogether) {
    uint4 pieces[Layer::kTogether][kEights][Layer::kPieces];
#pragma unroll
    for (int c = start; c < min_of(start + Layer::kTogether, Layer::kChunks); ++c)
#pragma unroll
      for (int e = 0; e < kEights; ++e)
#pragma unroll
        for (int p = 0; p < Layer::kPieces; ++p)
          pieces[c - start][e][p] = Layer::has(c)
                                        ? load_activations(x + held_sequence(e) * kInputs + Layer::input(c) + 8 * p)
                                        : make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int c = start; c < min_of(start + Layer::kTogether, Layer::kChunks); ++c) {
      layer.multiply_chunk(c, pieces[c - start], sums);
      if (c + Layer::kAhead < Layer::kChunks) layer.fetch(c + Layer::kAhead);
    }
  }
  float results[Layer::kResults];
  Layer::combine(sums, partial, results);
  finish(results, first, WIDTH, [&](int index, int sequence, int output, float result) {
    // The product is rounded before it is added, as it would be if it were stored.
    out[sequence * WIDTH + output] = to_half(before[index] + to_float(to_half(result)));
  });
}

// ---- attention of one query a head over the cache: a block a head and sequence, HEAD_WIDTH / 8 lanes a key

constexpr int kAttentionWarps = ATTENTION_WARPS;
constexpr int kLanes = HEAD_WIDTH / 8;  // to a key: a group
constexpr int kKeys = kAttentionWarps * 32 / kLanes;  // that a block looks at at once
constexpr int kUnroll = 2;
constexpr float kScale = static_cast<float>(inverse_root(HEAD_WIDTH));
constexpr float kNothing = -1e30f;  // a maximum over no key; finite, so that differences are numbers

extern "C" __global__ void __launch_bounds__(kAttentionWarps * 32)
    gpt2_attention(const half_bits* query, const long long* position, const half_bits* keys, const half_bits* values,
                   half_bits* out, int length) {
  __shared__ float warp_maximum[kAttentionWarps], warp_total[kAttentionWarps], warp_sums[kAttentionWarps][HEAD_WIDTH];
  release_next();
  const int head = blockIdx.x, batch = blockIdx.y, group = threadIdx.x / kLanes;
  const int part = threadIdx.x % kLanes * 8;
  const int at = checked_position(position, length);
  const long long base = (static_cast<long long>(batch) * HEADS + head) * length * HEAD_WIDTH + part;
  uint4 k[kUnroll], v[kUnroll];
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {  // the older keys need not wait
    const int key = group + u * kKeys;
    k[u] = v[u] = make_uint4(0, 0, 0, 0);
    if (key < at) {
      k[u] = load_activations(keys + base + key * HEAD_WIDTH);
      v[u] = load_activations(values + base + key * HEAD_WIDTH);
    }
  }
  await_previous();
  float q[8];
  unpack(load_activations(query + batch * WIDTH + head * HEAD_WIDTH + part), q);
#pragma unroll
  for (int i = 0; i < 8; ++i) q[i] *= kScale * 1.4426950408889634f;  // of powers of two, not of e
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const int key = group + u * kKeys;
    if (key == at) {
      k[u] = load_activations(keys + base + key * HEAD_WIDTH);
      v[u] = load_activations(values + base + key * HEAD_WIDTH);
    }
  }
  float maximum = kNothing, total = 0.0f, sums[8] = {};
  for (int start = 0;;) {
    float scores[kUnroll], next = maximum;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      float x[8], score = 0.0f;
      unpack(k[u], x);
#pragma unroll
      for (int i = 0; i < 8; ++i) score = fmaf(q[i], x[i], score);
#pragma unroll
      for (int step = kLanes / 2; step > 0; step /= 2) score += __shfl_xor_sync(FULL_WARP, score, step);
      scores[u] = score;
      if (start + group + u * kKeys <= at) next = fmaxf(next, score);
    }
    const float shrink = exp2f(maximum - next);
    maximum = next;
    total *= shrink;
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[i] *= shrink;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const float share = start + group + u * kKeys <= at ? exp2f(scores[u] - maximum) : 0.0f;
      float x[8];
      unpack(v[u], x);
      total += share;
#pragma unroll
      for (int i = 0; i < 8; ++i) sums[i] = fmaf(share, x[i], sums[i]);
    }
    start += kKeys * kUnroll;
    if (start > at) break;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int key = start + group + u * kKeys;
      k[u] = v[u] = make_uint4(0, 0, 0, 0);
      if (key <= at) {
        k[u] = load_activations(keys + base + key * HEAD_WIDTH);
        v[u] = load_activations(values + base + key * HEAD_WIDTH);
      }
    }
  }
#pragma unroll
  for (int step = kLanes; step <= 16; step *= 2) {  // the groups of a warp become one
    const float other = __shfl_xor_sync(FULL_WARP, maximum, step), both = fmaxf(maximum, other);
    const float mine = exp2f(maximum - both), theirs = exp2f(other - both);
    total = total * mine + __shfl_xor_sync(FULL_WARP, total, step) * theirs;
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[i] = sums[i] * mine + __shfl_xor_sync(FULL_WARP, sums[i], step) * theirs;
    maximum = both;
  }
  if (lane() < kLanes) {
#pragma unroll
    for (int i = 0; i < 8; ++i) warp_sums[warp()][part + i] = sums[i];
    if (lane() == 0) {
      warp_maximum[warp()] = maximum;
      warp_total[warp()] = total;
    }
  }
  __syncthreads();
  if (threadIdx.x < HEAD_WIDTH) {
    float most = kNothing, all = 0.0f, sum = 0.0f;
#pragma unroll
    for (int w = 0; w < kAttentionWarps; ++w) most = fmaxf(most, warp_maximum[w]);
#pragma unroll
    for (int w = 0; w < kAttentionWarps; ++w) {
      const float share = exp2f(warp_maximum[w] - most);
      all = fmaf(share, warp_total[w], all);
      sum = fmaf(share, warp_sums[w][threadIdx.x], sum);
    }
    out[batch * WIDTH + head * HEAD_WIDTH + threadIdx.x] = to_half(sum / all);
  }
}

// ---- the final norm, the LM head, and each block's most likely token; a grid that fits the chip goes over all tiles

// `best` is [batch, blocks].
template <class Weights>
__device__ __forceinline__ void norm_lm_head(const Weights& weights, const half_bits* hidden, const half_bits* gamma,
                                             const half_bits* beta, half_bits* logits, Choice* best, int vocabulary) {
  constexpr int kRows = 16;
  typedef typename NormTile<Weights, kRows>::Layer Layer;
  static_assert(Layer::kResults == 1 && 32 % kRows == 0, "a sequence's results lie side by side in a warp");
  __shared__ typename Layer::Partial partial[2];  // by turns, so that a tile's sums wait for no reader of the last one's
  release_next();
  NormTile<Weights, kRows> head;
  head.fetch(weights, blockIdx.x * kRows, vocabulary, gamma, beta);
  await_previous();
  head.load(hidden);
  head.normalise();
  const int row = Layer::row(0), sequence = Layer::sequence(0);
  Choice top = kNoChoice;
  int turn = 0;
  for (int first = blockIdx.x * kRows; first < vocabulary; first += gridDim.x * kRows, turn ^= 1) {
    const int output = first + row;
    const bool exists = sequence < BATCH && output < vocabulary;
    const float scale = exists ? weights.scale(output) : 0.0f;
    head.layer.point(weights, first + gridDim.x * kRows, vocabulary);
    typename Layer::Sums sums = {};
#pragma unroll
    for (int c = 0; c < Layer::kChunks; ++c) {
      head.layer.multiply_chunk(c, head.x[c], sums);
      head.layer.fetch(c);  // of the next tile; past the last one it is of no use and does no harm
    }
    float results[1];
    Layer::combine(sums, partial[turn], results);
    const half_bits logit = to_half(results[0] * scale);
    if (exists) {
      logits[static_cast<long long>(sequence) * vocabulary + output] = logit;
      top = better(top, choice(logit, output));
    }
  }
  top = best_of_lanes<kRows>(top);
  if (sequence < BATCH && row == 0) best[sequence * gridDim.x + blockIdx.x] = top;
}

// A block a sequence, a warp wide.
extern "C" __global__ void __launch_bounds__(32)
    gpt2_argmax(const Choice* best, long long* token, int blocks) {
  release_next();
  await_previous();
  Choice top = kNoChoice;
  for (int i = lane(); i < blocks; i += 32) top = better(top, best[blockIdx.x * blocks + i]);
  top = best_of_lanes<32>(top);
  if (lane() == 0) token[blockIdx.x] = chosen_token(top);
}

// ---- the kernels

// The blocks of a multiprocessor that ptxas must leave registers for. Told so, it keeps loads in flight; left alone, it saves
// registers for more blocks than will ever come, and waits for each load in turn.
constexpr int kBlocks = kWarps <= 8 ? 2 : 1;

extern "C" __global__ void __launch_bounds__(kWarps * 32, kBlocks)
    gpt2_embed_norm_qkv(const long long* tokens, const long long* position, const half_bits* token_embedding,
                        const half_bits* position_embedding, const half_bits* gamma, const half_bits* beta,
                        const half_bits* weight, const half_bits* bias, half_bits* keys, half_bits* values,
                        half_bits* hidden, half_bits* query, int length, int vocabulary) {
  embed_norm_qkv(Fp16{weight}, tokens, position, token_embedding, position_embedding, gamma, beta, bias, keys, values,
                 hidden, query, length, vocabulary);
}

extern "C" __global__ void __launch_bounds__(kWarps * 32, kBlocks)
    gpt2_embed_norm_qkv_int8(const long long* tokens, const long long* position, const half_bits* token_embedding,
                             const half_bits* position_embedding, const half_bits* gamma, const half_bits* beta,
                             const signed char* weight, const float* scale, const half_bits* bias, half_bits* keys,
                             half_bits* values, half_bits* hidden, half_bits* query, int length, int vocabulary) {
  embed_norm_qkv(Int8{weight, scale}, tokens, position, token_embedding, position_embedding, gamma, beta, bias, keys, values,
                 hidden, query, length, vocabulary);
}

extern "C" __global__ void __launch_bounds__(kWarps * 32, kBlocks)
    gpt2_norm_qkv(const half_bits* hidden, const long long* position, const half_bits* gamma, const half_bits* beta,
                  const half_bits* weight, const half_bits* bias, half_bits* keys, half_bits* values, half_bits* query,
                  int length) {
  norm_qkv(Fp16{weight}, hidden, position, gamma, beta, bias, keys, values, query, length);
}

extern "C" __global__ void __launch_bounds__(kWarps * 32, kBlocks)
    gpt2_norm_qkv_int8(const half_bits* hidden, const long long* position, const half_bits* gamma, const half_bits* beta,
                       const signed char* weight, const float* scale, const half_bits* bias, half_bits* keys,
                       half_bits* values, half_bits* query, int length) {
  norm_qkv(Int8{weight, scale}, hidden, position, gamma, beta, bias, keys, values, query, length);
}

extern "C" __global__ void __launch_bounds__(kWarps * 32, kBlocks)
    gpt2_attention_projection(const half_bits* x, const half_bits* weight, const half_bits* bias, const half_bits* residual,
                              half_bits* out) {
  linear_residual<WIDTH, kWarps>(Fp16{weight}, x, bias, residual, out);
}

extern "C" __global__ void __launch_bounds__(kWarps * 32, kBlocks)
    gpt2_attention_projection_int8(const half_bits* x, const signed char* weight, const float* scale, const half_bits* bias,
                                   const half_bits* residual, half_bits* out) {
  linear_residual<WIDTH, kWarps>(Int8{weight, scale}, x, bias, residual, out);
}

extern "C" __global__ void __launch_bounds__(kWarps * 32, kBlocks)
    gpt2_norm_fc1_gelu(const half_bits* hidden, const half_bits* gamma, const half_bits* beta, const half_bits* weight,
                       const half_bits* bias, half_bits* out) {
  norm_fc1_gelu(Fp16{weight}, hidden, gamma, beta, bias, out);
}

extern "C" __global__ void __launch_bounds__(kWarps * 32, kBlocks)
    gpt2_norm_fc1_gelu_int8(const half_bits* hidden, const half_bits* gamma, const half_bits* beta,
                            const signed char* weight, const float* scale, const half_bits* bias, half_bits* out) {
  norm_fc1_gelu(Int8{weight, scale}, hidden, gamma, beta, bias, out);
}

extern "C" __global__ void __launch_bounds__(kWideWarps * 32, 1)
    gpt2_fc2_residual(const half_bits* x, const half_bits* weight, const half_bits* bias, const half_bits* residual,
                      half_bits* out) {
  linear_residual<4 * WIDTH, kWideWarps>(Fp16{weight}, x, bias, residual, out);
}

extern "C" __global__ void __launch_bounds__(kWideWarps * 32, 1)
    gpt2_fc2_residual_int8(const half_bits* x, const signed char* weight, const float* scale, const half_bits* bias,
                           const half_bits* residual, half_bits* out) {
  linear_residual<4 * WIDTH, kWideWarps>(Int8{weight, scale}, x, bias, residual, out);
}

extern "C" __global__ void __launch_bounds__(kWarps * 32, kBlocks)
    gpt2_norm_lm_head(const half_bits* hidden, const half_bits* gamma, const half_bits* beta, const half_bits* weight,
                      half_bits* logits, Choice* best, int vocabulary) {
  norm_lm_head(Fp16{weight}, hidden, gamma, beta, logits, best, vocabulary);
}

extern "C" __global__ void __launch_bounds__(kWarps * 32, kBlocks)
    gpt2_norm_lm_head_int8(const half_bits* hidden, const half_bits* gamma, const half_bits* beta,
                           const signed char* weight, const float* scale, half_bits* logits, Choice* best,
                           int vocabulary) {
  norm_lm_head(Int8{weight, scale}, hidden, gamma, beta, logits, best, vocabulary);
}
