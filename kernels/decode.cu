// One decode step of GPT-2: five kernels a layer, then the head. FP16 weights and activations, FP32 arithmetic.
//
// A warp owns an output row, or a slice of one: it has all of that row's weights in flight, in registers, before it looks
// at anything that the kernel before it computes. From compute capability 9.0 on, a kernel launched as a programmatic
// dependent starts while its predecessor still runs, so the weights stream in across kernels; on older chips the two
// lines that do so compile to nothing. Nothing here needs more than 7.5, nor a header.
//
// Compiled with WIDTH, the embedding's, HEAD_WIDTH (32, 64 or 128, of which WIDTH is a multiple) and BATCH (1 to 16).

typedef unsigned short half_bits;  // an FP16 number as it is stored

#define HEADS (WIDTH / HEAD_WIDTH)
#define CHUNKS ((WIDTH + 255) / 256)  // 16-byte loads a lane needs for WIDTH halves
#define FULL_WARP 0xffffffffu
#ifndef NORM_ROWS  // output rows of a warp behind a layer norm, which the warp computes anew: as many as registers allow
#define NORM_ROWS (BATCH > 1 && CHUNKS > 4 ? 1 : 2)
#endif
#ifndef HEAD_ROWS  // vocabulary rows of a warp at a time; as many again are on their way
#define HEAD_ROWS (BATCH > 1 && CHUNKS > 4 ? 1 : 2)
#endif

constexpr int kWarps = 4;       // of a block of a linear layer
constexpr int kHeadWarps = 8;   // of a block of the head
constexpr int kChunks = CHUNKS;
constexpr float kEpsilon = 1e-5f;
constexpr float kLowest = -3.402823466e38f;

struct Slice {  // a warp's WIDTH halves: chunk c of lane l holds the eight from (32 c + l) * 8 on
  uint4 chunk[kChunks];
};

// ---- the smallest pieces

__device__ __forceinline__ void unpack(unsigned pair, float& low, float& high) {
  asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=f"(low), "=f"(high) : "r"(pair));
}

__device__ __forceinline__ void unpack(const uint4& packed, float (&values)[8]) {
  unpack(packed.x, values[0], values[1]);
  unpack(packed.y, values[2], values[3]);
  unpack(packed.z, values[4], values[5]);
  unpack(packed.w, values[6], values[7]);
}

__device__ __forceinline__ half_bits to_half(float value) {
  half_bits bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ float to_float(half_bits bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ __forceinline__ unsigned pack(float low, float high) {
  return static_cast<unsigned>(to_half(low)) | static_cast<unsigned>(to_half(high)) << 16;
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(FULL_WARP, value, step);
  return value;
}

__device__ __forceinline__ int lane() { return threadIdx.x % 32; }
__device__ __forceinline__ int warp() { return threadIdx.x / 32; }
__device__ __forceinline__ int element(int chunk) { return (chunk * 32 + lane()) * 8; }

// Let the next kernel begin; it waits by itself before it reads what this one writes.
__device__ __forceinline__ void release_next() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Wait until the kernel before is over and its writes are visible. Until here, only weights and older tokens may be read.
__device__ __forceinline__ void await_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Volatile, so that the load is issued where it is written: before the wait.
__device__ __forceinline__ uint4 load_weights(const half_bits* from) {
  uint4 packed;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(packed.x), "=r"(packed.y), "=r"(packed.z), "=r"(packed.w)
               : "l"(from));
  return packed;
}

__device__ __forceinline__ Slice load_weight_slice(const half_bits* from) {
  Slice slice;
#pragma unroll
  for (int c = 0; c < kChunks; ++c)
    slice.chunk[c] = element(c) < WIDTH ? load_weights(from + element(c)) : make_uint4(0, 0, 0, 0);
  return slice;
}

__device__ __forceinline__ uint4 load_activations(const half_bits* from) { return *reinterpret_cast<const uint4*>(from); }

__device__ __forceinline__ void load_row(const half_bits* from, float (&x)[kChunks][8]) {
#pragma unroll
  for (int c = 0; c < kChunks; ++c)
    unpack(element(c) < WIDTH ? load_activations(from + element(c)) : make_uint4(0, 0, 0, 0), x[c]);
}

__device__ __forceinline__ float dot(const Slice& weights, const float (&x)[kChunks][8]) {
  float sums[2] = {0.0f, 0.0f};
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    float w[8];
    unpack(weights.chunk[c], w);
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[i % 2] = fmaf(w[i], x[c][i], sums[i % 2]);
  }
  return sums[0] + sums[1];
}

// Keep a compiler that is short of registers from unpacking a slice once and for all.
__device__ __forceinline__ void stay_packed(Slice& slice) {
#pragma unroll
  for (int c = 0; c < kChunks; ++c)
    asm volatile("" : "+r"(slice.chunk[c].x), "+r"(slice.chunk[c].y), "+r"(slice.chunk[c].z), "+r"(slice.chunk[c].w));
}

// The mean of a row and the reciprocal of its deviation, the same in every lane.
__device__ __forceinline__ void moments(const float (&x)[kChunks][8], float& mean, float& scale) {
  float sum = 0.0f;
#pragma unroll
  for (int c = 0; c < kChunks; ++c)
#pragma unroll
    for (int i = 0; i < 8; ++i) sum += x[c][i];
  mean = warp_sum(sum) / WIDTH;
  float squares = 0.0f;
#pragma unroll
  for (int c = 0; c < kChunks; ++c)
    if (element(c) < WIDTH)
#pragma unroll
      for (int i = 0; i < 8; ++i) squares = fmaf(x[c][i] - mean, x[c][i] - mean, squares);
  scale = rsqrtf(warp_sum(squares) / WIDTH + kEpsilon);
}

__device__ __forceinline__ void apply_norm(float (&x)[kChunks][8], float mean, float scale, const Slice& gamma,
                                           const Slice& beta) {
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    float g[8], b[8];
    unpack(gamma.chunk[c], g);
    unpack(beta.chunk[c], b);
#pragma unroll
    for (int i = 0; i < 8; ++i) x[c][i] = fmaf((x[c][i] - mean) * scale, g[i], b[i]);
  }
}

__device__ __forceinline__ float gelu(float x) {
  const float inner = 0.7978845608028654f * fmaf(0.044715f * x * x, x, x);
  const float e = __expf(-2.0f * fabsf(inner));  // tanh by a form that cannot overflow
  return 0.5f * x * (1.0f + copysignf((1.0f - e) / (1.0f + e), inner));
}

// ---- layer norm and a linear layer whose rows are WIDTH long; where its results go is the caller's

template <int kRows>
struct NormLinear {
  Slice weights[kRows], gamma, beta;
  float bias[kRows];
  int first;

  // `outputs` is a multiple of kRows.
  __device__ __forceinline__ bool fetch(int outputs, const half_bits* gamma_from, const half_bits* beta_from,
                                        const half_bits* weight, const half_bits* bias_from) {
    first = (blockIdx.x * kWarps + warp()) * kRows;
    if (first >= outputs) return false;
#pragma unroll
    for (int r = 0; r < kRows; ++r) weights[r] = load_weight_slice(weight + (first + r) * static_cast<long long>(WIDTH));
    gamma = load_weight_slice(gamma_from);
    beta = load_weight_slice(beta_from);
#pragma unroll
    for (int r = 0; r < kRows; ++r) bias[r] = to_float(bias_from[first + r]);
    return true;
  }

  // Every lane gets all results of the row x, which is normalised in place.
  __device__ __forceinline__ void apply(float (&x)[kChunks][8], float (&results)[kRows]) {
    if (BATCH > 1 && CHUNKS > 4) {
      stay_packed(gamma);
      stay_packed(beta);
    }
    float mean, scale;
    moments(x, mean, scale);
    apply_norm(x, mean, scale, gamma, beta);
#pragma unroll
    for (int r = 0; r < kRows; ++r) results[r] = warp_sum(dot(weights[r], x)) + bias[r];
  }
};

__device__ __forceinline__ int checked_position(const long long* position, int length) {
  const long long at = *position;
  if (at < 0 || at >= length) __trap();  // the cache has no such row
  return static_cast<int>(at);
}

// Row `output` of the QKV product goes to the query or, at `at`, into the cache: [batch, heads, length, head width].
__device__ __forceinline__ void store_qkv(int batch, int output, float result, int at, int length, half_bits* query,
                                          half_bits* keys, half_bits* values) {
  const int column = output % WIDTH, part = output / WIDTH;
  const long long row = (static_cast<long long>(batch) * HEADS + column / HEAD_WIDTH) * length + at;
  half_bits* to = part == 0 ? query + batch * WIDTH + column
                            : (part == 1 ? keys : values) + row * HEAD_WIDTH + column % HEAD_WIDTH;
  *to = to_half(result);
}

extern "C" __global__ void __launch_bounds__(kWarps * 32)
    gpt2_norm_qkv(const half_bits* hidden, const long long* position, const half_bits* gamma, const half_bits* beta,
                  const half_bits* weight, const half_bits* bias, half_bits* keys, half_bits* values, half_bits* query,
                  int length) {
  release_next();
  NormLinear<NORM_ROWS> layer;
  if (!layer.fetch(3 * WIDTH, gamma, beta, weight, bias)) return;
  const int at = checked_position(position, length);
  await_previous();
#pragma unroll 1
  for (int b = 0; b < BATCH; ++b) {
    float x[kChunks][8], results[NORM_ROWS];
    load_row(hidden + b * WIDTH, x);
    layer.apply(x, results);
#pragma unroll
    for (int r = 0; r < NORM_ROWS; ++r)
      if (lane() == r) store_qkv(b, layer.first + r, results[r], at, length, query, keys, values);
  }
}

// The same behind the embedding, which it also leaves in `hidden`.
extern "C" __global__ void __launch_bounds__(kWarps * 32)
    gpt2_embed_norm_qkv(const long long* tokens, const long long* position, const half_bits* token_embedding,
                        const half_bits* position_embedding, const half_bits* gamma, const half_bits* beta,
                        const half_bits* weight, const half_bits* bias, half_bits* keys, half_bits* values,
                        half_bits* hidden, half_bits* query, int length, int vocabulary) {
  release_next();
  NormLinear<NORM_ROWS> layer;
  if (!layer.fetch(3 * WIDTH, gamma, beta, weight, bias)) return;
  await_previous();
  const int at = checked_position(position, length);
#pragma unroll 1
  for (int b = 0; b < BATCH; ++b) {
    const long long token = tokens[b];
    if (token < 0 || token >= vocabulary) __trap();
    float x[kChunks][8], p[kChunks][8], results[NORM_ROWS];
    load_row(token_embedding + token * WIDTH, x);
    load_row(position_embedding + static_cast<long long>(at) * WIDTH, p);
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      uint4 sums;  // rounded as they are stored, so that every layer sees the same embedding
      sums.x = pack(x[c][0] + p[c][0], x[c][1] + p[c][1]);
      sums.y = pack(x[c][2] + p[c][2], x[c][3] + p[c][3]);
      sums.z = pack(x[c][4] + p[c][4], x[c][5] + p[c][5]);
      sums.w = pack(x[c][6] + p[c][6], x[c][7] + p[c][7]);
      if (layer.first == 0 && element(c) < WIDTH) *reinterpret_cast<uint4*>(hidden + b * WIDTH + element(c)) = sums;
      unpack(sums, x[c]);
    }
    layer.apply(x, results);
#pragma unroll
    for (int r = 0; r < NORM_ROWS; ++r)
      if (lane() == r) store_qkv(b, layer.first + r, results[r], at, length, query, keys, values);
  }
}

extern "C" __global__ void __launch_bounds__(kWarps * 32)
    gpt2_norm_fc1_gelu(const half_bits* hidden, const half_bits* gamma, const half_bits* beta, const half_bits* weight,
                       const half_bits* bias, half_bits* out) {
  release_next();
  NormLinear<NORM_ROWS> layer;
  if (!layer.fetch(4 * WIDTH, gamma, beta, weight, bias)) return;
  await_previous();
#pragma unroll 1
  for (int b = 0; b < BATCH; ++b) {
    float x[kChunks][8], results[NORM_ROWS];
    load_row(hidden + b * WIDTH, x);
    layer.apply(x, results);
#pragma unroll
    for (int r = 0; r < NORM_ROWS; ++r)
      if (lane() == r) out[b * 4 * WIDTH + layer.first + r] = to_half(gelu(results[r]));
  }
}

// ---- a linear layer of WIDTH rows, each kSlices * WIDTH long and shared by as many warps, and the residual connection
// `out` may be `residual`: each element is read and written by the same thread.

template <int kSlices>
__device__ __forceinline__ void linear_residual(const half_bits* x, const half_bits* weight, const half_bits* bias,
                                                const half_bits* residual, half_bits* out) {
  constexpr int kRows = kWarps / kSlices;  // of a block
  __shared__ float partial[BATCH][kWarps];
  const int row = blockIdx.x * kRows + warp() / kSlices, slice = warp() % kSlices;  // WIDTH is a multiple of kRows
  const Slice weights = load_weight_slice(weight + (static_cast<long long>(row) * kSlices + slice) * WIDTH);
  static_assert(BATCH * kRows <= kWarps * 32, "a thread finishes one result");
  const int own = threadIdx.x % kRows, to = threadIdx.x / kRows, column = blockIdx.x * kRows + own;
  const bool finishes = threadIdx.x < BATCH * kRows;
  float sum = finishes ? to_float(bias[column]) : 0.0f;
  await_previous();
  const float before = finishes ? to_float(residual[to * WIDTH + column]) : 0.0f;
#pragma unroll 1
  for (int b = 0; b < BATCH; ++b) {
    float values[kChunks][8];
    load_row(x + (b * kSlices + slice) * WIDTH, values);
    const float result = warp_sum(dot(weights, values));
    if (lane() == 0) partial[b][warp()] = result;
  }
  __syncthreads();
  if (finishes) {
#pragma unroll
    for (int s = 0; s < kSlices; ++s) sum += partial[to][own * kSlices + s];
    // The product is rounded before it is added, as it would be if it were stored.
    out[to * WIDTH + column] = to_half(before + to_float(to_half(sum)));
  }
}

extern "C" __global__ void __launch_bounds__(kWarps * 32)
    gpt2_attention_projection(const half_bits* x, const half_bits* weight, const half_bits* bias, const half_bits* residual,
                              half_bits* out) {
  release_next();
  linear_residual<1>(x, weight, bias, residual, out);
}

extern "C" __global__ void __launch_bounds__(kWarps * 32)
    gpt2_fc2_residual(const half_bits* x, const half_bits* weight, const half_bits* bias, const half_bits* residual,
                      half_bits* out) {
  release_next();
  linear_residual<4>(x, weight, bias, residual, out);
}

// ---- attention of one query a head over the cache: a block a head and sequence, HEAD_WIDTH / 8 lanes a key

constexpr int kAttentionWarps = 16;
constexpr int kLanes = HEAD_WIDTH / 8;  // to a key: a group
constexpr int kKeys = kAttentionWarps * 32 / kLanes;  // that a block looks at at once
constexpr int kUnroll = 2;
constexpr float kScale = HEAD_WIDTH == 32 ? 0.17677669529663687f : HEAD_WIDTH == 64 ? 0.125f : 0.08838834764831845f;
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

// ---- the final norm, the LM head, and each block's most likely token; a grid that fits the chip goes over all rows

__device__ __forceinline__ void load_head_rows(const half_bits* weight, int group, int vocabulary, Slice (&rows)[HEAD_ROWS]) {
#pragma unroll
  for (int r = 0; r < HEAD_ROWS; ++r)  // past the end the last row again, whose result is dropped
    rows[r] = load_weight_slice(weight + static_cast<long long>(min(group * HEAD_ROWS + r, vocabulary - 1)) * WIDTH);
}

// `best` and `best_index` are [batch, blocks]; equal logits go to the lower token.
extern "C" __global__ void __launch_bounds__(kHeadWarps * 32)
    gpt2_norm_lm_head(const half_bits* hidden, const half_bits* gamma_from, const half_bits* beta_from,
                      const half_bits* weight, half_bits* logits, float* best, int* best_index, int vocabulary) {
  __shared__ float means[BATCH], scales[BATCH], warp_best[kHeadWarps][BATCH];
  __shared__ int warp_index[kHeadWarps][BATCH];
  release_next();
  const int groups = (vocabulary + HEAD_ROWS - 1) / HEAD_ROWS, stride = gridDim.x * kHeadWarps;
  int group = blockIdx.x * kHeadWarps + warp();
  Slice rows[HEAD_ROWS];
  if (group < groups) load_head_rows(weight, group, vocabulary, rows);
  const Slice gamma = load_weight_slice(gamma_from), beta = load_weight_slice(beta_from);
  await_previous();
  float x[kChunks][8];
  if (BATCH == 1) {
    float mean, scale;
    load_row(hidden, x);
    moments(x, mean, scale);
    apply_norm(x, mean, scale, gamma, beta);
  } else {
    for (int b = warp(); b < BATCH; b += kHeadWarps) {
      float mean, scale;
      load_row(hidden + b * WIDTH, x);
      moments(x, mean, scale);
      if (lane() == 0) {
        means[b] = mean;
        scales[b] = scale;
      }
    }
    __syncthreads();
  }
  float top = kLowest;  // lane b's is that of sequence b
  int top_index = 0;
  for (; group < groups; group += stride) {
    Slice next[HEAD_ROWS];
    if (group + stride < groups) load_head_rows(weight, group + stride, vocabulary, next);
#pragma unroll 1
    for (int b = 0; b < BATCH; ++b) {
      if (BATCH > 1) {
        load_row(hidden + b * WIDTH, x);
        apply_norm(x, means[b], scales[b], gamma, beta);
      }
#pragma unroll
      for (int r = 0; r < HEAD_ROWS; ++r) {
        const int row = group * HEAD_ROWS + r;
        const float logit = warp_sum(dot(rows[r], x));
        if (row < vocabulary && lane() == b) {
          logits[static_cast<long long>(b) * vocabulary + row] = to_half(logit);
          if (logit > top) {
            top = logit;
            top_index = row;
          }
        }
      }
    }
#pragma unroll
    for (int r = 0; r < HEAD_ROWS; ++r) rows[r] = next[r];
  }
  if (lane() < BATCH) {
    warp_best[warp()][lane()] = top;
    warp_index[warp()][lane()] = top_index;
  }
  __syncthreads();
  if (threadIdx.x < BATCH) {
    const int b = threadIdx.x;
    for (int w = 1; w < kHeadWarps; ++w)
      if (warp_best[w][b] > warp_best[0][b] || (warp_best[w][b] == warp_best[0][b] && warp_index[w][b] < warp_index[0][b])) {
        warp_best[0][b] = warp_best[w][b];
        warp_index[0][b] = warp_index[w][b];
      }
    best[b * gridDim.x + blockIdx.x] = warp_best[0][b];
    best_index[b * gridDim.x + blockIdx.x] = warp_index[0][b];
  }
}

// A block a sequence, a warp wide.
extern "C" __global__ void __launch_bounds__(32)
    gpt2_argmax(const float* best, const int* best_index, long long* token, int blocks) {
  release_next();
  await_previous();
  float top = kLowest;
  int top_index = 0x7fffffff;
  for (int i = lane(); i < blocks; i += 32) {
    const float value = best[blockIdx.x * blocks + i];
    const int index = best_index[blockIdx.x * blocks + i];
    if (value > top || (value == top && index < top_index)) {
      top = value;
      top_index = index;
    }
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const float value = __shfl_xor_sync(FULL_WARP, top, step);
    const int index = __shfl_xor_sync(FULL_WARP, top_index, step);
    if (value > top || (value == top && index < top_index)) {
      top = value;
      top_index = index;
    }
  }
  if (lane() == 0) token[blockIdx.x] = top_index;
}
