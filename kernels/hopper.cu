// One decode step of GPT-2 as one kernel, for one sequence, from compute capability 9.0 on.
//
// Clusters of eight blocks stay on the chip for the whole step, as many as the model has heads. In the first half of a layer
// a cluster works on its head, in the second on its share of the MLP: each block computes an eighth of the first linear
// layer's outputs and sends them to the others' shared memory; each then holds all inputs of an eighth of the second one's
// outputs. What a cluster yields is its share of the sum that is the next hidden state, in FP32: the next half adds the
// shares up, always in the same order, so that every run gives the same bits. The first cluster's share holds the residual
// and the bias.
//
// There is no barrier over the grid. A share that is not there yet reads as kAbsent, a NaN that no arithmetic yields, and is
// asked for again. Meanwhile the next half's weights are on their way into shared memory: they are packed so that what a
// block needs is one piece. Two such steps must not run at once: each could wait for blocks that the other one keeps out.
//
// Why nothing is overwritten that someone still reads: to gather a half's shares, a block needs those of the blocks of its
// rank alone; but to receive the whole hidden state it needs all of them, and these needed what every warp of every block
// had to say one half before. So what is used in one half may be used again in the next but one. Shares lie apart for every
// layer, and are put back to kAbsent one half later.
//
// Compiled with WIDTH, a multiple of 256, in heads of 64, and SHARED_BYTES, the size of `Shared`.

#include "half.cuh"

constexpr int kCluster = 8, kWarps = 16, kThreads = kWarps * 32;
constexpr int kHeadWidth = 64, kHeads = WIDTH / kHeadWidth;
constexpr int kChunks = WIDTH / 256;                 // 16-byte pieces a lane has of WIDTH halves
constexpr int kColumns = WIDTH / kCluster;           // outputs of a block in a second linear layer
constexpr int kQkv = 3 * kHeadWidth, kUnits = 4 * kHeadWidth;  // outputs of a cluster in a first linear layer
constexpr int kMostRows = kUnits / kCluster;         // of them, a block's
constexpr int kHeadRows = kChunks == 1 ? 4 : 2;      // vocabulary rows of a warp at a time; as many again are on their way
constexpr int kPad = 8;                              // halves behind a row in shared memory: eight rows are in different banks
constexpr int kKeys = 16;                            // of a warp
constexpr int kShort = kKeys * kWarps;               // up to this position, a block looks at all keys by itself
constexpr int kShares = kHeads * WIDTH;              // floats of all clusters' shares
constexpr unsigned kAbsent = 0xffffffffu;
constexpr int kPatience = 1 << 24;                   // looks, at half a microsecond or more each, before a step is given up
constexpr float kEpsilon = 1e-5f, kLowest = -3.402823466e38f, kNothing = -1e30f;
static_assert(WIDTH % 256 == 0 && kMostRows == kWarps * 2 && kColumns / 8 <= kWarps && WIDTH / kWarps % 16 == 0, "see above");

// ---- the smallest pieces

__device__ __forceinline__ float4 to_floats(uint2 packed) {
  float4 values;
  unpack(packed.x, values.x, values.y);
  unpack(packed.y, values.z, values.w);
  return values;
}

template <int kWidest>
__device__ __forceinline__ float sum_over(float value) {  // neighbouring lanes
#pragma unroll
  for (int step = kWidest / 2; step > 0; step /= 2) value += __shfl_xor_sync(FULL_WARP, value, step);
  return value;
}

__device__ __forceinline__ float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }

// Volatile, so that the load is issued where it is written: before the wait.
__device__ __forceinline__ uint4 load_weights(const half_bits* from) {
  uint4 packed;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(packed.x), "=r"(packed.y), "=r"(packed.z), "=r"(packed.w)
               : "l"(from));
  return packed;
}

__device__ __forceinline__ uint4 load_cached(const half_bits* from) {
  uint4 packed;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(packed.x), "=r"(packed.y), "=r"(packed.z), "=r"(packed.w)
               : "l"(from));
  return packed;
}

__device__ __forceinline__ float dot(const uint4& weights, const float4& low, const float4& high) {
  float w[8];
  unpack(weights, w);
  const float even = fmaf(w[0], low.x, fmaf(w[2], low.z, fmaf(w[4], high.x, w[6] * high.z)));
  const float odd = fmaf(w[1], low.y, fmaf(w[3], low.w, fmaf(w[5], high.y, w[7] * high.w)));
  return even + odd;
}

// ---- shares: of a hidden state, in global memory, FP32 [shares, WIDTH]

__device__ __forceinline__ void publish(float* to, float value) {
  asm volatile("st.relaxed.gpu.global.f32 [%0], %1;" ::"l"(to), "f"(value) : "memory");
}

__device__ __forceinline__ float4 look(const float* from) {
  float4 seen;
  asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(seen.x), "=f"(seen.y), "=f"(seen.z), "=f"(seen.w)
               : "l"(from)
               : "memory");
  return seen;
}

__device__ __forceinline__ bool absent(const float4& seen) {
  return __float_as_uint(seen.x) == kAbsent || __float_as_uint(seen.y) == kAbsent || __float_as_uint(seen.z) == kAbsent ||
         __float_as_uint(seen.w) == kAbsent;
}

// Put kAbsent into all clusters' shares, this warp of each of `blocks` blocks a part.
__device__ __forceinline__ void clear(float* shares, int block, int blocks) {
  const uint4 nothing = make_uint4(kAbsent, kAbsent, kAbsent, kAbsent);
  for (int i = block * 32 + lane(); i < kShares / 4; i += blocks * 32) reinterpret_cast<uint4*>(shares)[i] = nothing;
}

// ---- what blocks of a cluster send each other: a mailbox is a barrier in shared memory that counts the bytes that came

__device__ __forceinline__ unsigned shared_address(const void* from) {
  return static_cast<unsigned>(__cvta_generic_to_shared(from));
}

__device__ __forceinline__ unsigned rank_in_cluster() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

__device__ __forceinline__ unsigned at_peer(const void* own, unsigned peer) {
  unsigned address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(own)), "r"(peer));
  return address;
}

__device__ __forceinline__ void open_mailbox(unsigned long long* mailbox) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(mailbox)) : "memory");
}

// One thread says how much is to come until the mailbox is full; some of it may have come before.
__device__ __forceinline__ void expect(unsigned long long* mailbox, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(mailbox)), "r"(bytes) : "memory");
}

__device__ __forceinline__ void fetch_into(void* own, const void* from, int bytes, unsigned long long* mailbox) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(own)),
               "l"(from), "r"(bytes), "r"(shared_address(mailbox))
               : "memory");
}

__device__ __forceinline__ void send_word(void* to, unsigned long long* mailbox, unsigned peer, unsigned word) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(at_peer(to, peer)),
               "r"(word), "r"(at_peer(mailbox, peer))
               : "memory");
}

__device__ __forceinline__ void send(float* to, unsigned long long* mailbox, unsigned peer, float value) {
  send_word(to, mailbox, peer, __float_as_uint(value));
}

__device__ __forceinline__ void send(float* to, unsigned long long* mailbox, unsigned peer, const float4& values) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
                   at_peer(to, peer)),
               "r"(__float_as_uint(values.x)), "r"(__float_as_uint(values.y)), "r"(__float_as_uint(values.z)),
               "r"(__float_as_uint(values.w)), "r"(at_peer(mailbox, peer))
               : "memory");
}

// Wait until it is full for the (turn + 1)th time.
__device__ __forceinline__ void receive(unsigned long long* mailbox, int turn) {
  unsigned done = 0;
  while (!done)
    asm volatile(
        "{.reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
        : "=r"(done)
        : "r"(shared_address(mailbox)), "r"(turn & 1)
        : "memory");
}

__device__ __forceinline__ void meet_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Wait for the first `kCount` threads.
template <int kCount>
__device__ __forceinline__ void meet() {
  asm volatile("bar.sync %0, %1;" ::"n"(kCount == kThreads ? 1 : 2), "n"(kCount) : "memory");
}

// ---- the hidden state, and its layer norm

struct Norm {  // the input of one
  float hidden[WIDTH];
  unsigned long long mailbox;
};

// Add up the clusters' shares, each block of the cluster its columns, for all its blocks. Eight lanes share four columns.
__device__ __forceinline__ void gather(const float* shares, Norm& norm) {
  constexpr int kEach = (kHeads + 7) / 8;  // shares of a lane
  const int slot = lane() % 8, piece = rank_in_cluster() * (kColumns / 4) + threadIdx.x / 8;
  if (threadIdx.x >= kColumns / 4 * 8) return;  // whole warps
  float4 seen[kEach];
  bool missing;
  int looks = 0;
  do {
    if (++looks > kPatience) __trap();
    missing = false;
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      seen[i] = slot + i * 8 < kHeads ? look(shares + (slot + i * 8) * WIDTH + piece * 4) : float4{0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < kEach; ++i) missing |= absent(seen[i]);
  } while (__any_sync(FULL_WARP, missing));
  float4 sum = seen[0];
#pragma unroll
  for (int i = 1; i < kEach; ++i) sum = float4{sum.x + seen[i].x, sum.y + seen[i].y, sum.z + seen[i].z, sum.w + seen[i].w};
  sum = float4{sum_over<8>(sum.x), sum_over<8>(sum.y), sum_over<8>(sum.z), sum_over<8>(sum.w)};
  send(norm.hidden + piece * 4, &norm.mailbox, slot, sum);
}

// The sum of both embeddings, instead of shares.
__device__ __forceinline__ void embed(const half_bits* token, const half_bits* position, Norm& norm) {
  const int piece = rank_in_cluster() * (kColumns / 4) + threadIdx.x / 8;
  if (threadIdx.x >= kColumns / 4 * 8) return;
  const float4 a = to_floats(*reinterpret_cast<const uint2*>(token + piece * 4));
  const float4 b = to_floats(*reinterpret_cast<const uint2*>(position + piece * 4));
  const float4 sum{to_float(to_half(a.x + b.x)), to_float(to_half(a.y + b.y)), to_float(to_half(a.z + b.z)),
                   to_float(to_half(a.w + b.w))};  // rounded, as an embedding in FP16 is
  send(norm.hidden + piece * 4, &norm.mailbox, lane() % 8, sum);
}

struct Scratch {
  half_bits normal[WIDTH];
  float sums[WIDTH / 128], squares[WIDTH / 128];
  float parts[kWarps][kMostRows + 1];  // one word more, so that the parts of a row are in different banks
  float columns[2][kColumns];
};

// The layer norm of a hidden state, for every warp. The first WIDTH / 4 threads have four columns each.
__device__ __forceinline__ void normalise(Norm& norm, const half_bits* gamma, const half_bits* beta, Scratch& scratch,
                                          int turn) {
  constexpr int kParts = WIDTH / 128;
  if (threadIdx.x < WIDTH / 4) {
    receive(&norm.mailbox, turn);
    const float4 x = load4(norm.hidden + threadIdx.x * 4);
    const float4 g = to_floats(reinterpret_cast<const uint2*>(gamma)[threadIdx.x]);
    const float4 b = to_floats(reinterpret_cast<const uint2*>(beta)[threadIdx.x]);
    float sum = (x.x + x.y) + (x.z + x.w), squares = fmaf(x.x, x.x, x.y * x.y) + fmaf(x.z, x.z, x.w * x.w);
    sum = sum_over<32>(sum);
    squares = sum_over<32>(squares);
    if (lane() == 0) {
      scratch.sums[warp()] = sum;
      scratch.squares[warp()] = squares;
    }
    meet<WIDTH / 4>();
    sum = squares = 0.0f;
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      sum += scratch.sums[p];
      squares += scratch.squares[p];
    }
    const float mean = sum / WIDTH, scale = rsqrtf(fmaxf(squares / WIDTH - mean * mean, 0.0f) + kEpsilon);
    reinterpret_cast<uint2*>(scratch.normal)[threadIdx.x] =
        make_uint2(pack(fmaf((x.x - mean) * scale, g.x, b.x), fmaf((x.y - mean) * scale, g.y, b.y)),
                   pack(fmaf((x.z - mean) * scale, g.z, b.z), fmaf((x.w - mean) * scale, g.w, b.w)));
  }
  meet<kThreads>();
}

// ---- linear layers, on tensor cores: sixteen outputs and sixteen inputs at a time, all eight columns the same

__device__ __forceinline__ void multiply_registers(unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1,
                                                   float4& sums) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(sums.x), "+f"(sums.y), "+f"(sums.z), "+f"(sums.w)
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// weights: sixteen rows of kStride halves in shared memory.
template <int kStride>
__device__ __forceinline__ void multiply(const half_bits* weights, const half_bits* inputs, float4& sums) {
  unsigned a[4];
  const half_bits* from = weights + lane() % 16 * kStride + lane() / 16 * 8;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(shared_address(from))
               : "memory");
  const unsigned* x = reinterpret_cast<const unsigned*>(inputs) + lane() % 4;
  multiply_registers(a[0], a[1], a[2], a[3], x[0], x[4], sums);
}

// The block's outputs of the first linear layer: each warp has a slice of the inputs, and then two outputs. Half a warp gets
// each of these.
template <int kStride>
__device__ __forceinline__ float apply_rows(const half_bits* weights, Scratch& scratch) {
  constexpr int kSlice = WIDTH / kWarps;
#pragma unroll
  for (int tile = 0; tile < kMostRows / 16; ++tile) {
    float4 sums{0, 0, 0, 0};
#pragma unroll
    for (int k = 0; k < kSlice; k += 16)
      multiply<kStride>(weights + tile * 16 * kStride + warp() * kSlice + k, scratch.normal + warp() * kSlice + k, sums);
    if (lane() % 4 == 0) {
      scratch.parts[warp()][tile * 16 + lane() / 4] = sums.x;
      scratch.parts[warp()][tile * 16 + lane() / 4 + 8] = sums.z;
    }
  }
  meet<kThreads>();
  return sum_over<16>(scratch.parts[lane() % 16][warp() * 2 + lane() / 16]);
}

// The block's outputs of the second one: two warps share sixteen of them. The first kColumns threads get one each.
template <int kInputs, int kStride>
__device__ __forceinline__ float apply_columns(const half_bits* weights, const half_bits* inputs, Scratch& scratch) {
  constexpr int kSlice = kInputs / 2;
  if (warp() < kColumns / 8) {
    const int tile = warp() / 2, half = warp() % 2;
    float4 even{0, 0, 0, 0}, odd{0, 0, 0, 0};
#pragma unroll
    for (int k = 0; k < kSlice; k += 32) {
      const half_bits* from = weights + tile * 16 * kStride + half * kSlice + k;
      multiply<kStride>(from, inputs + half * kSlice + k, even);
      multiply<kStride>(from + 16, inputs + half * kSlice + k + 16, odd);
    }
    if (lane() % 4 == 0) {
      scratch.columns[half][tile * 16 + lane() / 4] = even.x + odd.x;
      scratch.columns[half][tile * 16 + lane() / 4 + 8] = even.z + odd.z;
    }
  }
  meet<kThreads>();
  return threadIdx.x < kColumns ? scratch.columns[0][threadIdx.x] + scratch.columns[1][threadIdx.x] : 0.0f;
}

__device__ __forceinline__ uint4 piece_of(const half_bits* halves, int piece) {
  return reinterpret_cast<const uint4*>(halves)[piece];
}

// ---- attention

struct Exchange {
  half_bits qkv[kQkv];                     // the new token's, of this head
  half_bits gathered[kHeadWidth];          // what its query gathers
  float weights[kWarps][kKeys];            // of each warp's keys
  float maximum[kCluster], total[kCluster], sums[kCluster][kHeadWidth];  // of the cluster's blocks
  float warp_maximum[kWarps], warp_total[kWarps], warp_sums[kWarps][kHeadWidth + 4];
  unsigned long long qkv_mail, sums_mail;
};

// The sum of softmax parts at one column, of 8 * kEach parts shared by eight lanes: all of them get it.
template <int kEach, int kStride>
__device__ __forceinline__ void combine(const float* maxima, const float* totals, const float* parts, float& most, float& all,
                                        float& sum) {
  const int first = lane() % 8 * kEach;
  most = maxima[first];
#pragma unroll
  for (int i = 1; i < kEach; ++i) most = fmaxf(most, maxima[first + i]);
#pragma unroll
  for (int step = 4; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(FULL_WARP, most, step));
  all = sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const float weight = exp2f(maxima[first + i] - most);
    all = fmaf(weight, totals[first + i], all);
    sum = fmaf(weight, parts[i * kStride], sum);
  }
  all = sum_over<8>(all);
  sum = sum_over<8>(sum);
}

// A warp's keys and values. Of keys `lane / 4` and eight more, a lane has two pieces of eight; of each value, two columns.
struct Keys {
  uint4 keys[2][2];
  unsigned values[kKeys];
  int first;

  // Those before `at`; that one is not in the cache yet.
  __device__ __forceinline__ void fetch(int from, int at, const half_bits* all_keys, const half_bits* all_values) {
    first = from;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int key = first + lane() / 4 + r * 8;
#pragma unroll
      for (int p = 0; p < 2; ++p)
        keys[r][p] = key < at ? load_cached(all_keys + key * kHeadWidth + (p * 4 + lane() % 4) * 8) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int k = 0; k < kKeys; ++k) {
      values[k] = 0;
      if (first + k < at)
        asm volatile("ld.global.u32 %0, [%1];" : "=r"(values[k]) : "l"(all_values + (first + k) * kHeadWidth + lane() * 2));
    }
  }

  // Put in the new token's.
  __device__ __forceinline__ void complete(int at, const half_bits* qkv) {
#pragma unroll
    for (int r = 0; r < 2; ++r)
      if (first + lane() / 4 + r * 8 == at)
#pragma unroll
        for (int p = 0; p < 2; ++p) keys[r][p] = piece_of(qkv + kHeadWidth, p * 4 + lane() % 4);
#pragma unroll
    for (int k = 0; k < kKeys; ++k)
      if (first + k == at) values[k] = reinterpret_cast<const unsigned*>(qkv + 2 * kHeadWidth)[lane()];
  }
};

// What the query gathers from a warp's keys, as a part of a softmax: two columns a lane.
__device__ __forceinline__ void attend(const Keys& own, int at, const half_bits* query, float (&weights)[kKeys], float& maximum,
                                       float& total, float2& sums) {
  constexpr float kScale = 0.125f * 1.4426950408889634f;  // of powers of two, not of e
  // The order of the products in a dot product is free: a lane's pieces stand for inputs 2 i, 2 i + 1, 2 i + 8, 2 i + 9 of
  // each of two steps of sixteen, of the keys and the query alike.
  float4 scores[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
#pragma unroll
  for (int p = 0; p < 2; ++p) {
    const uint4 q = piece_of(query, p * 4 + lane() % 4), low = own.keys[0][p], high = own.keys[1][p];
    multiply_registers(low.x, high.x, low.y, high.y, q.x, q.y, scores[0]);
    multiply_registers(low.z, high.z, low.w, high.w, q.z, q.w, scores[1]);
  }
  const int key = own.first + lane() / 4;
  const float first = key <= at ? (scores[0].x + scores[1].x) * kScale : kNothing;
  const float second = key + 8 <= at ? (scores[0].z + scores[1].z) * kScale : kNothing;
  maximum = fmaxf(first, second);
#pragma unroll
  for (int step = 4; step <= 16; step *= 2) maximum = fmaxf(maximum, __shfl_xor_sync(FULL_WARP, maximum, step));
  const float low = key <= at ? exp2f(first - maximum) : 0.0f, high = key + 8 <= at ? exp2f(second - maximum) : 0.0f;
  if (lane() % 4 == 0) {
    weights[lane() / 4] = low;
    weights[lane() / 4 + 8] = high;
  }
  __syncwarp();
  total = 0.0f;
  sums = float2{0, 0};
#pragma unroll
  for (int k = 0; k < kKeys; k += 4) {
    const float4 w = load4(weights + k);
    const float each[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float x, y;
      unpack(own.values[k + i], x, y);
      total += each[i];
      sums.x = fmaf(each[i], x, sums.x);
      sums.y = fmaf(each[i], y, sums.y);
    }
  }
}

// ---- the two halves of a layer

struct Cache {  // of a layer, [kHeads, length, kHeadWidth] each
  half_bits *keys, *values;
};

struct Place {  // of this block and of the new token
  int cluster, rank, at, length;

  __device__ __forceinline__ bool alone() const { return at < kShort; }  // whether a block looks at all keys by itself
  __device__ __forceinline__ long long head() const { return static_cast<long long>(cluster) * length * kHeadWidth; }
};

struct AttentionWeights {  // a block's, as they are packed
  half_bits qkv[kQkv / kCluster][WIDTH + kPad], gamma[WIDTH], beta[WIDTH];
  half_bits row_bias[kQkv / kCluster], column_bias[kColumns], projection[kColumns][kHeadWidth + kPad];
};

struct MlpWeights {
  half_bits fc1[kMostRows][WIDTH + kPad], gamma[WIDTH], beta[WIDTH];
  half_bits row_bias[kMostRows], column_bias[kColumns], fc2[kColumns][kUnits + kPad];
};

// One thread, once nobody reads the last ones any more.
__device__ __forceinline__ void fetch_attention(AttentionWeights& own, const AttentionWeights* layer,
                                                unsigned long long* mailbox) {
  expect(mailbox, sizeof(own));
  fetch_into(&own, layer + blockIdx.x, sizeof(own), mailbox);
}

// Of the MLP, what its first linear layer needs.
__device__ __forceinline__ void fetch_fc1(MlpWeights& own, const MlpWeights* layer, unsigned long long* mailbox) {
  constexpr int kBytes = sizeof(own) - sizeof(own.fc2);
  expect(mailbox, kBytes);
  fetch_into(&own, layer + blockIdx.x, kBytes, mailbox);
}

__device__ __forceinline__ void fetch_fc2(MlpWeights& own, const MlpWeights* layer, unsigned long long* mailbox) {
  expect(mailbox, sizeof(own.fc2));
  fetch_into(own.fc2, layer[blockIdx.x].fc2, sizeof(own.fc2), mailbox);
}

__device__ __forceinline__ int own_row() { return warp() * 2 + lane() / 16; }

struct Units {  // of the MLP, this cluster's, behind GELU
  half_bits values[kUnits];
  unsigned long long mailbox;
};

struct Shared {
  alignas(128) AttentionWeights attention;
  alignas(128) MlpWeights mlp;
  alignas(16) Norm attention_norm, mlp_norm;
  alignas(16) Scratch scratch;
  alignas(16) Exchange box;
  alignas(16) Units units;
  unsigned long long attention_mail, fc1_mail, fc2_mail;
};
static_assert(sizeof(Shared) == SHARED_BYTES, "what it is launched with");

// A second linear layer's outputs to the cluster's share, the first cluster's with bias and residual.
__device__ __forceinline__ void publish_columns(float value, const half_bits* bias, const Norm& norm, const Place& place,
                                                float* share) {
  if (threadIdx.x >= kColumns) return;
  const int column = place.rank * kColumns + threadIdx.x;
  if (place.cluster == 0) value += to_float(bias[threadIdx.x]) + norm.hidden[column];
  publish(share + column, value);
}

__device__ __forceinline__ void expect_attention(Shared& shared, const Place& place) {
  Exchange& box = shared.box;
  expect(&box.qkv_mail, sizeof(box.qkv));
  if (!place.alone()) expect(&box.sums_mail, sizeof(box.maximum) + sizeof(box.total) + sizeof(box.sums));
}

struct Step {  // where a step's tensors are
  const AttentionWeights* attention_weights;  // [layers, blocks]
  const MlpWeights* mlp_weights;
  float *attention_shares, *mlp_shares;  // [layers, kHeads, WIDTH]
  int layers;
};

__device__ __forceinline__ bool keeps() { return warp() == kWarps - 1; }  // the warp that looks after weights and mailboxes

// In the first half of layer l, once its hidden state has come: by now every block is done with the layer before.
__device__ __forceinline__ void keep_attention(Shared& shared, const Step& step, const Place& place, int l) {
  if (lane() == 0) {
    if (l > 0) {
      fetch_fc1(shared.mlp, step.mlp_weights + l * gridDim.x, &shared.fc1_mail);
      expect(&shared.mlp_norm.mailbox, sizeof(shared.mlp_norm.hidden));
    }
    expect(&shared.units.mailbox, sizeof(shared.units.values));
  }
  if (l > 0) clear(step.attention_shares + (l - 1) * kShares, blockIdx.x, gridDim.x);
}

// In the second half, likewise: the first half is over everywhere.
__device__ __forceinline__ void keep_mlp(Shared& shared, const Step& step, const Place& place, int l) {
  if (lane() == 0) {
    if (l + 1 < step.layers) {
      fetch_attention(shared.attention, step.attention_weights + (l + 1) * gridDim.x, &shared.attention_mail);
      expect_attention(shared, place);
    }
    expect(&shared.attention_norm.mailbox, sizeof(shared.attention_norm.hidden));
  }
  if (l > 0) clear(step.mlp_shares + (l - 1) * kShares, blockIdx.x, gridDim.x);
}

// `turn`: how often the mailboxes have been full before.
__device__ __forceinline__ void attention_half(Shared& shared, const Step& step, const Cache& cache, const Place& place,
                                               int turn, Keys& own, float* share) {
  constexpr int kBlockRows = kQkv / kCluster;
  const AttentionWeights& weights = shared.attention;
  Exchange& box = shared.box;
  if (keeps()) {
    receive(&shared.attention_norm.mailbox, turn);
    keep_attention(shared, step, place, turn);
  }
  receive(&shared.attention_mail, turn);
  normalise(shared.attention_norm, weights.gamma, weights.beta, shared.scratch, turn);
  const float result = apply_rows<WIDTH + kPad>(weights.qkv[0], shared.scratch);
  const float next = __shfl_down_sync(FULL_WARP, result, 16);
  if (warp() * 2 < kBlockRows) {
    const int output = place.rank * kBlockRows + warp() * 2, kind = output / kHeadWidth;
    const half_bits* bias = weights.row_bias + warp() * 2;
    const unsigned pair = pack(result + to_float(bias[0]), next + to_float(bias[1]));
    if (lane() < kCluster) send_word(box.qkv + output, &box.qkv_mail, lane(), pair);
    if (lane() == kCluster && kind > 0)
      *reinterpret_cast<unsigned*>((kind == 1 ? cache.keys : cache.values) + place.head() +
                                   static_cast<long long>(place.at) * kHeadWidth + output % kHeadWidth) = pair;
  }
  if (keeps() && lane() == 0 && turn > 0) fetch_fc2(shared.mlp, step.mlp_weights + turn * gridDim.x, &shared.fc2_mail);
  receive(&box.qkv_mail, turn);
  own.complete(place.at, box.qkv);
  float maximum, total;
  float2 sums;
  attend(own, place.at, box.qkv, box.weights[warp()], maximum, total, sums);
  *reinterpret_cast<float2*>(&box.warp_sums[warp()][lane() * 2]) = sums;
  if (lane() == 0) {
    box.warp_maximum[warp()] = maximum;
    box.warp_total[warp()] = total;
  }
  meet<kThreads>();
  const int column = threadIdx.x / 8, peer = threadIdx.x % 8;
  float most, all, sum;
  const float* own_sums = &box.warp_sums[peer * (kWarps / 8)][column];
  combine<kWarps / 8, kHeadWidth + 4>(box.warp_maximum, box.warp_total, own_sums, most, all, sum);
  if (!place.alone()) {
    send(&box.sums[place.rank][column], &box.sums_mail, peer, sum);
    if (column == 0) send(&box.maximum[place.rank], &box.sums_mail, peer, most);
    if (column == 0) send(&box.total[place.rank], &box.sums_mail, peer, all);
    receive(&box.sums_mail, turn);
    combine<1, 0>(box.maximum, box.total, &box.sums[peer][column], most, all, sum);
  }
  if (peer == 0) box.gathered[column] = to_half(sum / all);
  meet<kThreads>();
  const float value = apply_columns<kHeadWidth, kHeadWidth + kPad>(weights.projection[0], box.gathered, shared.scratch);
  publish_columns(value, weights.column_bias, shared.attention_norm, place, share);
}

__device__ __forceinline__ void mlp_half(Shared& shared, const Step& step, const Place& place, int turn, float* share) {
  const MlpWeights& weights = shared.mlp;
  if (keeps()) {
    receive(&shared.mlp_norm.mailbox, turn);
    keep_mlp(shared, step, place, turn);
  }
  receive(&shared.fc1_mail, turn);
  normalise(shared.mlp_norm, weights.gamma, weights.beta, shared.scratch, turn);
  const float result = gelu(apply_rows<WIDTH + kPad>(weights.fc1[0], shared.scratch) + to_float(weights.row_bias[own_row()]));
  const float next = __shfl_down_sync(FULL_WARP, result, 16);
  if (lane() < kCluster)
    send_word(shared.units.values + place.rank * kMostRows + warp() * 2, &shared.units.mailbox, lane(), pack(result, next));
  receive(&shared.units.mailbox, turn);
  receive(&shared.fc2_mail, turn);
  const float value = apply_columns<kUnits, kUnits + kPad>(weights.fc2[0], shared.units.values, shared.scratch);
  publish_columns(value, weights.column_bias, shared.mlp_norm, place, share);
}

// ---- the LM head, and the most likely token

struct Best {
  float logit;
  unsigned token;
};

__device__ __forceinline__ Best better(Best a, Best b) {  // equal logits go to the lower token
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token) ? a : b;
}

__device__ __forceinline__ Best best_of_warp(Best own) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    own = better(own, Best{__shfl_xor_sync(FULL_WARP, own.logit, step), __shfl_xor_sync(FULL_WARP, own.token, step)});
  return own;
}

struct Head {
  uint4 rows[kHeadRows][kChunks];

  // Past the end the last row again, whose result is dropped.
  __device__ __forceinline__ void fetch(const half_bits* weight, int group, int vocabulary) {
#pragma unroll
    for (int r = 0; r < kHeadRows; ++r)
#pragma unroll
      for (int c = 0; c < kChunks; ++c)
        rows[r][c] = load_weights(weight + static_cast<long long>(min(group * kHeadRows + r, vocabulary - 1)) * WIDTH +
                                  (c * 32 + lane()) * 8);
  }

  // All logits of this warp for a normalised row, and the best of them. The first group's rows have been fetched.
  __device__ __forceinline__ Best apply(const half_bits* normal, const half_bits* weight, half_bits* logits, int vocabulary) {
    const int groups = (vocabulary + kHeadRows - 1) / kHeadRows, stride = gridDim.x * kWarps;
    Best top{kLowest, 0xfffffffeu};
    float4 low[kChunks], high[kChunks];
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const uint4 x = reinterpret_cast<const uint4*>(normal)[c * 32 + lane()];
      low[c] = to_floats(make_uint2(x.x, x.y));
      high[c] = to_floats(make_uint2(x.z, x.w));
    }
    for (int group = blockIdx.x * kWarps + warp(); group < groups; group += stride) {
      Head next;
      if (group + stride < groups) next.fetch(weight, group + stride, vocabulary);
#pragma unroll
      for (int r = 0; r < kHeadRows; ++r) {
        float sum = 0.0f;
#pragma unroll
        for (int c = 0; c < kChunks; ++c) sum += dot(rows[r][c], low[c], high[c]);
        const float logit = sum_over<32>(sum);
        const int row = group * kHeadRows + r;
        if (row < vocabulary) {
          if (lane() == 0) logits[row] = to_half(logit);
          top = better(top, Best{logit, static_cast<unsigned>(row)});
        }
      }
      *this = next;
    }
    return top;
  }
};

// The best of a block's warps, for the first of them.
__device__ __forceinline__ Best best_of_block(Best top, Best (&of_warps)[kWarps]) {
  if (lane() == 0) of_warps[warp()] = top;
  meet<kThreads>();
  return best_of_warp(of_warps[lane() % kWarps]);
}

// `best` has a pair of words a block: the logit's bits and the token, kAbsent where it is not known yet.
__device__ __forceinline__ void publish_best(Best top, unsigned long long* best) {
  const unsigned long long pair = static_cast<unsigned long long>(top.token) << 32 | __float_as_uint(top.logit);
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(best + blockIdx.x), "l"(pair) : "memory");
}

// The best of a block, which is put back to kAbsent; none where there is no such block.
__device__ __forceinline__ Best best_of(unsigned long long* best, int block) {
  if (block >= gridDim.x) return Best{kLowest, 0xfffffffeu};
  unsigned long long pair;
  int looks = 0;
  do {
    if (++looks > kPatience) __trap();
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(pair) : "l"(best + block) : "memory");
  } while (static_cast<unsigned>(pair >> 32) == kAbsent);
  best[block] = ~0ull;
  return Best{__uint_as_float(static_cast<unsigned>(pair)), static_cast<unsigned>(pair >> 32)};
}


// All blocks must be on the chip at once. Shares are [layers, kHeads, WIDTH], of both halves. The next token and its position
// are written over those given.
extern "C" __global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads, 1)
    gpt2_decode_step(long long* token, long long* position, const half_bits* token_embedding,
                     const half_bits* position_embedding, const AttentionWeights* attention_weights,
                     const MlpWeights* mlp_weights, const Cache* caches, const half_bits* gamma, const half_bits* beta,
                     const half_bits* head_weight, float* attention_shares, float* mlp_shares, unsigned long long* best,
                     half_bits* logits, int layer_count, int length, int vocabulary) {
  extern __shared__ __align__(128) unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  __shared__ Best best_of_warps[kWarps];
  const long long at = *position, first_token = *token;
  if (at < 0 || at >= length) __trap();  // the cache has no such row
  if (first_token < 0 || first_token >= vocabulary) __trap();
  const Place place{static_cast<int>(blockIdx.x) / kCluster, static_cast<int>(rank_in_cluster()), static_cast<int>(at), length};
  Norm &attention_norm = shared.attention_norm, &mlp_norm = shared.mlp_norm;
  if (threadIdx.x == 0) {
    open_mailbox(&attention_norm.mailbox);
    open_mailbox(&mlp_norm.mailbox);
    open_mailbox(&shared.attention_mail);
    open_mailbox(&shared.fc1_mail);
    open_mailbox(&shared.fc2_mail);
    open_mailbox(&shared.box.qkv_mail);
    open_mailbox(&shared.box.sums_mail);
    open_mailbox(&shared.units.mailbox);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  const Step step{attention_weights, mlp_weights, attention_shares, mlp_shares, layer_count};
  if (keeps() && lane() == 0) {
    fetch_attention(shared.attention, attention_weights, &shared.attention_mail);
    fetch_fc1(shared.mlp, mlp_weights, &shared.fc1_mail);
    fetch_fc2(shared.mlp, mlp_weights, &shared.fc2_mail);
    expect(&attention_norm.mailbox, sizeof(attention_norm.hidden));
    expect(&mlp_norm.mailbox, sizeof(mlp_norm.hidden));
    expect_attention(shared, place);
  }
  meet_cluster();
#pragma unroll 1
  for (int l = 0; l < layer_count; ++l) {
    const Cache cache = caches[l];
    float *attention_share = attention_shares + l * kShares, *mlp_share = mlp_shares + l * kShares;
    Keys own;
    own.fetch((place.alone() ? warp() : place.rank * kWarps + warp()) * kKeys, place.at, cache.keys + place.head(),
              cache.values + place.head());
    if (l == 0)
      embed(token_embedding + first_token * WIDTH, position_embedding + at * WIDTH, attention_norm);
    else
      gather(mlp_share - kShares, attention_norm);
    attention_half(shared, step, cache, place, l, own, attention_share + place.cluster * WIDTH);
    gather(attention_share, mlp_norm);
    mlp_half(shared, step, place, l, mlp_share + place.cluster * WIDTH);
  }
  Head head;
  head.fetch(head_weight, blockIdx.x * kWarps + warp(), vocabulary);
  float* last = mlp_shares + (layer_count - 1) * kShares;
  gather(last, attention_norm);
  normalise(attention_norm, gamma, beta, shared.scratch, layer_count);
  const Best top = best_of_block(head.apply(shared.scratch.normal, head_weight, logits, vocabulary), best_of_warps);
  if (threadIdx.x == 0) publish_best(top, best);
  if (keeps()) clear(attention_shares + (layer_count - 1) * kShares, blockIdx.x, gridDim.x);
  if (blockIdx.x == 0) {
    meet<kThreads>();
    const Best all = best_of_block(best_of_warp(best_of(best, threadIdx.x)), best_of_warps);
    if (threadIdx.x == 0) {  // all blocks have read both by now
      *token = all.token;
      *position = at + 1;
    }
    clear(last, warp(), kWarps);  // as they have this
  }
  meet_cluster();  // a block must not end before what was sent to it has come
}
