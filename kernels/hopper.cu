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
// asked for again, by three warps of each block that do nothing else. So all blocks must be on the chip at once. A cooperative
// launch promises that, or the driver refuses it. Should something not come even so, the step ends with a trap.
//
// What a half does once its hidden state has come is one chain of latencies, so all else is done before: weights lie in
// registers, in the order in which tensor cores want them, and so do the keys and values that a warp will attend to. The layer
// norm's factors are in the weights; its mean and scale are found beside the products and applied to the sums. For a row w of
// the weights times gamma, norm(x) . w = scale * (x . w - mean * sum(w)), with beta's share in the bias.
//
// Another warp orders all weights, packed so that what a block needs is one piece of memory, as soon as the last layer's are in
// registers. It is what the step waits for in the end, and it must not ask for too much at once: all requests pass the same
// queues, and the others' for shares would wait behind it.
//
// Why nothing is overwritten that someone still reads: to gather a half's shares, a block needs those of the blocks of its
// rank alone; but to receive the whole hidden state it needs all of them, and these needed what every warp of every block
// had to say one half before. So what is used in one half may be used again in the next but one. Shares lie apart for every
// layer, and are put back to kAbsent one half later.
//
// Compiled with the macros of hopper.py, which says what they are. WIDTH must be a multiple of 256.

#include "half.cuh"

#include "choice.cuh"

constexpr int kCluster = CLUSTER, kWarps = WARPS, kThreads = kWarps * 32;  // that compute
constexpr int kAllThreads = THREADS, kKeeper = kAllThreads / 32 - 1;       // the last warp orders
constexpr int kGatherers = kKeeper - kWarps;                               // warps that gather
constexpr int kHeadWidth = HEAD_WIDTH, kHeads = WIDTH / kHeadWidth;
constexpr int kChunks = WIDTH / 256;                 // 16-byte pieces a lane has of WIDTH halves
constexpr int kColumns = WIDTH / kCluster;           // outputs of a block in a second linear layer
constexpr int kQkvRows = QKV_ROWS, kUnitRows = UNIT_ROWS;  // of a first linear layer's outputs, a block's
constexpr int kQkv = kQkvRows * kCluster, kUnits = kUnitRows * kCluster;  // and its cluster's
constexpr int kSlice = WIDTH / kWarps;               // of that layer's inputs, a warp's
constexpr int kHeadRows = kChunks == 1 ? 4 : 2;      // vocabulary rows of a warp at a time; as many again are on their way
constexpr int kPad = PAD;                            // halves behind a row in shared memory: eight rows are in different banks
constexpr int kKeys = KEYS;                          // of a warp
constexpr int kShort = kKeys * (kWarps - 1);         // up to this position, a block looks at all keys by itself
constexpr int kShares = kHeads * WIDTH;              // floats of all clusters' shares
constexpr int kGrace = 150;                         // cycles in which others' shares may come after a block's own
constexpr int kPiece = 8192, kPause = 480;           // bytes of a copy, and cycles between two: 96 blocks ask for what HBM3 gives
constexpr unsigned kAbsent = static_cast<unsigned>(ABSENT);
constexpr unsigned long long kPatience = PATIENCE_MS * 1000000ull;  // nanoseconds after which a step is given up
constexpr unsigned kLooks = 256;                     // of a warp, before it looks at the time
constexpr float kScoreScale = static_cast<float>(inverse_root(kHeadWidth)) * 1.4426950408889634f;  // of powers of two, not of e
constexpr float kEpsilon = 1e-5f, kNothing = -1e30f;
static_assert(WIDTH % 256 == 0 && kUnitRows == kWarps * 2 && kColumns / 8 <= kWarps && kSlice % 16 == 0, "see above");
static_assert(kHeadWidth == 64 && kKeys == 16, "what the lanes of a warp are shared out for");

// ---- the smallest pieces

// Not from the thread's index, from which too much would be computed once and kept in registers.
__device__ __forceinline__ int lane_id() {
  int lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

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

__device__ __forceinline__ uint4 piece_of(const half_bits* halves, int piece) {
  return reinterpret_cast<const uint4*>(halves)[piece];
}

__device__ __forceinline__ float2 load2(const float* from) { return *reinterpret_cast<const float2*>(from); }
__device__ __forceinline__ float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }

// Volatile, so that the load is issued where it is written: before the wait.
__device__ __forceinline__ uint4 load_weights(const half_bits* from) {
  uint4 packed;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(packed.x), "=r"(packed.y), "=r"(packed.z), "=r"(packed.w)
               : "l"(from));
  return packed;
}

// Zeros where it is not `there`.
__device__ __forceinline__ uint4 load_cached(const half_bits* from, bool there) {
  uint4 packed;
  asm volatile(
      "{.reg .pred p; setp.ne.u32 p, %5, 0; mov.u32 %0, 0; mov.u32 %1, 0; mov.u32 %2, 0; mov.u32 %3, 0;"
      " @p ld.global.v4.u32 {%0, %1, %2, %3}, [%4];}"
      : "=&r"(packed.x), "=&r"(packed.y), "=&r"(packed.z), "=&r"(packed.w)
      : "l"(from), "r"(static_cast<unsigned>(there)));
  return packed;
}

// Of eight rows of eight halves across a warp, as of load_matrices.
__device__ __forceinline__ unsigned transpose(unsigned pair) {
  unsigned turned;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(pair));
  return turned;
}

__device__ __forceinline__ int own_row() { return warp() * 2 + lane_id() / 16; }

__device__ __forceinline__ float dot(const uint4& weights, const float4& low, const float4& high) {
  float w[8];
  unpack(weights, w);
  const float even = fmaf(w[0], low.x, fmaf(w[2], low.z, fmaf(w[4], high.x, w[6] * high.z)));
  const float odd = fmaf(w[1], low.y, fmaf(w[3], low.w, fmaf(w[5], high.y, w[7] * high.w)));
  return even + odd;
}

// ---- an end to every wait

__device__ __forceinline__ unsigned long long nanoseconds() {
  unsigned long long time;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
  return time;
}

// Of a warp. It looks at the time so seldom that a step in which all comes never does.
struct Patience {
  unsigned long long end = nanoseconds() + kPatience;
  unsigned looks = 0;

  __device__ __forceinline__ void spend() {  // for each look; a trap ends all blocks, and the host gets an error
    if (++looks % kLooks == 0 && nanoseconds() > end) __trap();
  }
};

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
#pragma unroll 1
  for (int i = block * 32 + lane_id(); i < kShares / 4; i += blocks * 32) reinterpret_cast<uint4*>(shares)[i] = nothing;
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
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(own)), "r"(peer));
  return address;
}

__device__ __forceinline__ void open_mailbox(unsigned long long* mailbox) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(mailbox)) : "memory");
}

// One that is full when each warp that computes has arrived. One lane of each does; a branch would cost registers.
__device__ __forceinline__ void open_meeting(unsigned long long* mailbox) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(mailbox)), "r"(kWarps) : "memory");
}

__device__ __forceinline__ void arrive(unsigned long long* mailbox) {
  asm volatile("{.reg .pred p; elect.sync _|p, 0xffffffff; @p mbarrier.arrive.shared::cta.b64 _, [%0];}" ::"r"(
                   shared_address(mailbox))
               : "memory");
}

// One thread says how much is to come until the mailbox is full; some of it may have come before.
__device__ __forceinline__ void expect(unsigned long long* mailbox, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(mailbox)), "r"(bytes) : "memory");
}

// Weights are the first to leave the L2 cache, so that it keeps what is small and soon asked for again. All blocks copy at the
// same time: piece by piece, at the pace of the memory, so that who asks for a share does not queue behind all of it.
__device__ __forceinline__ void fetch_into(void* own, const void* from, int bytes, unsigned long long* mailbox) {
  unsigned long long policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  unsigned next = clock();
#pragma unroll 1
  for (int at = 0; at < bytes; at += kPiece, next += kPause) {
    while (static_cast<int>(clock() - next) < 0) continue;
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
            shared_address(own) + at),
        "l"(static_cast<const char*>(from) + at), "r"(min(kPiece, bytes - at)), "r"(shared_address(mailbox)), "l"(policy)
        : "memory");
  }
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

// Whether it has been full for the (turn + 1)th time; waits a moment for that. What others sent lies in this block's own shared
// memory, so to acquire it in the block is enough; in the cluster, that would empty the L1 cache each time.
__device__ __forceinline__ bool is_full(unsigned long long* mailbox, int turn) {
  unsigned done;
  asm volatile(
      "{.reg .pred p; mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
      : "=r"(done)
      : "r"(shared_address(mailbox)), "r"(turn & 1)
      : "memory");
  return done;
}

// Wait until it is. The wait has an end because the warp that orders weights waits for the same, below.
__device__ __forceinline__ void receive(unsigned long long* mailbox, int turn) {
  while (!is_full(mailbox, turn)) continue;
}

__device__ __forceinline__ void receive(unsigned long long* mailbox, int turn, Patience& patience) {
  while (!is_full(mailbox, turn)) patience.spend();
}

__device__ __forceinline__ void meet_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

__device__ __forceinline__ void meet() { barrier(1, kThreads); }  // of the threads that compute

// ---- the hidden state, and its layer norm

struct Norm {  // the input of one
  float hidden[WIDTH];
  unsigned long long mailbox;
};

// Add up the clusters' shares, each block of the cluster its columns, for all its blocks. Four lanes share four columns.
struct Gatherer {
  static constexpr int kEach = (kHeads + 3) / 4;  // shares of a lane
  int slot, piece;

  __device__ __forceinline__ Gatherer() {
    const int thread = threadIdx.x - kThreads;
    slot = thread % 4;
    piece = rank_in_cluster() * (kColumns / 4) + thread / 4;
  }

  __device__ static __forceinline__ bool has_any() { return threadIdx.x - kThreads < kColumns; }  // whole warps

  __device__ __forceinline__ void gather(const float* shares, Norm& norm, Patience& patience) const {
    if (!has_any()) return;
    float4 seen[kEach];
    do {
      patience.spend();
    } while (!look_at_all(shares, seen));
    float4 sum = seen[0];
#pragma unroll
    for (int i = 1; i < kEach; ++i) sum = float4{sum.x + seen[i].x, sum.y + seen[i].y, sum.z + seen[i].z, sum.w + seen[i].w};
    tell(float4{sum_over<4>(sum.x), sum_over<4>(sum.y), sum_over<4>(sum.z), sum_over<4>(sum.w)}, norm);
  }

  // Whether all of a warp's shares are there.
  __device__ __forceinline__ bool look_at_all(const float* shares, float4 (&seen)[kEach]) const {
    bool missing = false;
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      seen[i] = slot + i * 4 < kHeads ? look(shares + (slot + i * 4) * WIDTH + piece * 4) : float4{0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < kEach; ++i) missing |= absent(seen[i]);
    return !__any_sync(FULL_WARP, missing);
  }

  // The sum of both embeddings, instead of shares.
  __device__ __forceinline__ float4 embed(const half_bits* token, const half_bits* position) const {
    if (!has_any()) return float4{0, 0, 0, 0};
    const float4 a = to_floats(*reinterpret_cast<const uint2*>(token + piece * 4));
    const float4 b = to_floats(*reinterpret_cast<const uint2*>(position + piece * 4));
    return float4{to_float(to_half(a.x + b.x)), to_float(to_half(a.y + b.y)), to_float(to_half(a.z + b.z)),
                  to_float(to_half(a.w + b.w))};  // rounded, as an embedding in FP16 is
  }

  __device__ __forceinline__ void tell(const float4& sum, Norm& norm) const {
    send(norm.hidden + piece * 4, &norm.mailbox, slot, sum);
    send(norm.hidden + piece * 4, &norm.mailbox, slot + 4, sum);
  }
};

struct Scratch {
  half_bits normal[WIDTH];
  float parts[kUnitRows][kWarps + PART_PAD];  // of a first linear layer's outputs, each warp's; padded against bank conflicts
  float sums[kWarps], squares[kWarps];  // of the inputs, likewise
  float columns[2][kColumns];
};

struct Moments {  // of a hidden state
  float mean, scale;
};

// The sum of what sixteen warps have left, a quarter of them a lane.
__device__ __forceinline__ float sum_of_warps(const float* parts) {
  const float4 own = load4(parts + lane_id() % 4 * 4);
  return sum_over<4>((own.x + own.y) + (own.z + own.w));
}

__device__ __forceinline__ Moments moments(const Scratch& scratch) {
  const float mean = sum_of_warps(scratch.sums) * (1.0f / WIDTH), square = sum_of_warps(scratch.squares) * (1.0f / WIDTH);
  return Moments{mean, rsqrtf(fmaxf(square - mean * mean, 0.0f) + kEpsilon)};
}

// The layer norm of a hidden state, for every warp. The first WIDTH / 4 threads have four columns each.
__device__ __forceinline__ void normalise(Norm& norm, const half_bits* gamma, const half_bits* beta, Scratch& scratch,
                                          int turn) {
  const bool has_columns = threadIdx.x < WIDTH / 4;  // whole warps
  float4 x{0, 0, 0, 0}, g = x, b = x;
  if (has_columns) {
    g = to_floats(reinterpret_cast<const uint2*>(gamma)[threadIdx.x]);
    b = to_floats(reinterpret_cast<const uint2*>(beta)[threadIdx.x]);
    receive(&norm.mailbox, turn);
    x = load4(norm.hidden + threadIdx.x * 4);
  }
  const float sum = sum_over<32>((x.x + x.y) + (x.z + x.w));
  const float squares = sum_over<32>(fmaf(x.x, x.x, x.y * x.y) + fmaf(x.z, x.z, x.w * x.w));
  if (lane_id() == 0) {
    scratch.sums[warp()] = sum;
    scratch.squares[warp()] = squares;
  }
  meet();
  const Moments of = moments(scratch);
  if (has_columns)
    reinterpret_cast<uint2*>(scratch.normal)[threadIdx.x] =
        make_uint2(pack(fmaf((x.x - of.mean) * of.scale, g.x, b.x), fmaf((x.y - of.mean) * of.scale, g.y, b.y)),
                   pack(fmaf((x.z - of.mean) * of.scale, g.z, b.z), fmaf((x.w - of.mean) * of.scale, g.w, b.w)));
  meet();
}

// ---- linear layers, on tensor cores: sixteen outputs and sixteen inputs at a time. Weights are packed so that what a lane
// needs of the inputs of one or two such steps is one piece: packing.py has the order.

// Weights of sixteen outputs, rows of kStride halves in shared memory, for one step: four words a lane.
template <int kStride>
__device__ __forceinline__ void load_sixteen(const half_bits* weights, unsigned* words) {
  unsigned first[2], second[2];
  load_matrices(reinterpret_cast<const uint4*>(weights + lane_id() % 16 * kStride + lane_id() / 16 * 8), first, second);
  words[0] = first[0], words[1] = first[1], words[2] = second[0], words[3] = second[1];
}

// Of eight outputs: two words.
template <int kStride>
__device__ __forceinline__ void load_eight(const half_bits* weights, unsigned* words) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(words[0]), "=r"(words[1])
               : "r"(shared_address(weights + lane_id() % 8 * kStride + lane_id() / 8 % 2 * 8)));
}

__device__ __forceinline__ void multiply(const unsigned (&weights)[4], unsigned low, unsigned high, float (&sums)[4]) {
  const unsigned inputs[2] = {low, high};
  multiply_16(sums, weights, inputs);
}

// A warp's share of a first linear layer: all of the block's outputs, of the warp's slice of the inputs.
template <int kRows>
struct RowWeights {
  static constexpr int kStride = WIDTH + kPad, kSteps = kSlice / 16, kTiles = (kRows + 15) / 16;
  static constexpr bool kHalfTile = kRows % 16 != 0;  // the last one has eight outputs
  unsigned words[kSteps][kTiles * 4 - (kHalfTile ? 2 : 0)];
  float sum, bias;  // of the one output of which half the warp gets the whole sum

  __device__ __forceinline__ void fetch(const half_bits* weights, const float* sums, const float* biases) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const half_bits* own = weights + tile * 16 * kStride + warp() * kSlice + step * 16;
        if (kHalfTile && tile + 1 == kTiles)
          load_eight<kStride>(own, words[step] + tile * 4);
        else
          load_sixteen<kStride>(own, words[step] + tile * 4);
      }
    const int row = min(own_row(), kRows - 1);
    sum = sums[row];
    bias = biases[row];
  }

  // An output of the linear layer behind the norm of a hidden state that has come, for each half of a warp.
  __device__ __forceinline__ float apply(const Norm& norm, Scratch& scratch) const {
    float sums[kTiles][4] = {};
    float moment[2] = {0, 0};
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const float4 x = load4(norm.hidden + warp() * kSlice + step * 16 + lane_id() % 4 * 4);
      const unsigned low = pack(x.x, x.y), high = pack(x.z, x.w);
      moment[0] += (x.x + x.y) + (x.z + x.w);
      moment[1] += fmaf(x.x, x.x, x.y * x.y) + fmaf(x.z, x.z, x.w * x.w);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const unsigned* w = words[step] + tile * 4;
        if (kHalfTile && tile + 1 == kTiles)
          multiply({w[0], 0, w[1], 0}, low, high, sums[tile]);
        else
          multiply({w[0], w[1], w[2], w[3]}, low, high, sums[tile]);
      }
    }
    moment[0] = sum_over<4>(moment[0]);
    moment[1] = sum_over<4>(moment[1]);
    if (lane_id() % 4 == 0) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        scratch.parts[tile * 16 + lane_id() / 4][warp()] = sums[tile][0];
        if (tile * 16 + 8 < kRows) scratch.parts[tile * 16 + lane_id() / 4 + 8][warp()] = sums[tile][2];
      }
    }
    if (lane_id() == 1) scratch.sums[warp()] = moment[0];
    if (lane_id() == 2) scratch.squares[warp()] = moment[1];
    meet();
    const float product = sum_of_warps(scratch.parts[own_row()]);
    const Moments of = moments(scratch);
    return fmaf(of.scale, fmaf(-of.mean, sum, product), bias);
  }
};

// A warp's share of a second one: sixteen of the block's outputs, of half the inputs.
template <int kInputs>
struct ColumnWeights {
  static constexpr int kStride = kInputs + kPad, kSteps = kInputs / 32;
  unsigned words[kSteps][4];

  __device__ static __forceinline__ bool has_any() { return warp() < kColumns / 8; }
  __device__ static __forceinline__ int half() { return warp() % 2; }

  __device__ __forceinline__ void fetch(const half_bits* weights) {
    if (!has_any()) return;
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
      load_sixteen<kStride>(weights + warp() / 2 * 16 * kStride + half() * (kInputs / 2) + step * 16, words[step]);
  }

  // Where a lane's piece of the inputs of steps 2 * pair and the next is, in pieces of eight.
  __device__ static __forceinline__ int piece(int pair) { return half() * (kInputs / 16) + pair * 4 + lane_id() % 4; }
};

// Two of a second layer's outputs, lane / 4 and eight more of a warp's sixteen; lanes of a multiple of four leave them.
__device__ __forceinline__ void leave_columns(float first, float second, Scratch& scratch) {
  if (lane_id() % 4 != 0) return;
  float* columns = scratch.columns[warp() % 2] + warp() / 2 * 16 + lane_id() / 4;
  columns[0] = first;
  columns[8] = second;
}

// ---- attention

// A softmax in sixteen parts. Of each one's scores, the exponentials beyond a reference: their sum, and the sum of the values
// weighed by them. The reference is so far above the maximum that no such sum is larger than the largest value, and FP16 can
// hold it. A part without keys has kNothing and zeros.
struct Parts {
  half_bits gathered[kWarps][kHeadWidth + GATHERED_PAD];  // padded so that what eight lanes read at once is in different banks
  float reference[kWarps], total[kWarps];

  __device__ __forceinline__ void clear() {  // by all threads that compute
    for (int i = threadIdx.x; i < sizeof(gathered) / 4; i += kThreads) reinterpret_cast<unsigned*>(gathered)[i] = 0;
    if (threadIdx.x < kWarps) {
      reference[threadIdx.x] = kNothing;
      total[threadIdx.x] = 0.0f;
    }
  }
};

struct Exchange {
  half_bits qkv[kQkv];                 // the new token's, of this head
  Parts of_warps, of_blocks;           // of this block; of the cluster, of which there are eight
  unsigned long long qkv_mail, parts_mail;
};
constexpr float kSixteen = 4.0f;               // as a power of two: keys of a warp, and parts of a block
constexpr int kPartBytes = kHeadWidth * 2 + 8;  // of what a block sends of its keys

struct Cache {  // of a layer, [kHeads, length, kHeadWidth] each
  half_bits *keys, *values;
};

struct Place {  // of this block and of the new token
  int cluster, rank, at, length;

  __device__ __forceinline__ bool alone() const { return at <= kShort; }  // whether a block looks at all keys by itself
  __device__ __forceinline__ long long head() const { return static_cast<long long>(cluster) * length * kHeadWidth; }

  // Of the warps that share the keys, which this is: each has kKeys of those before the new token, the last one that token.
  __device__ __forceinline__ int slot() const { return alone() ? warp() : rank * kWarps + warp(); }
  __device__ __forceinline__ bool has_newest() const { return slot() == (alone() ? kWarps : kCluster * kWarps) - 1; }
  __device__ __forceinline__ int keys() const { return has_newest() ? 0 : min(at - slot() * kKeys, kKeys); }  // none: 0 or less
};

// A warp's keys and values. Of keys `lane / 4` and eight more, a lane has two pieces of eight, and of their values.
struct Keys {
  uint4 keys[2][2], values[2][2];

  __device__ __forceinline__ void fetch(const Cache& cache, const Place& place) {
    if (place.keys() <= 0) return;
    const long long head = place.head();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int key = place.slot() * kKeys + lane_id() / 4 + r * 8;
#pragma unroll
      for (int p = 0; p < 2; ++p) {
        const long long at = head + key * kHeadWidth + (p * 4 + lane_id() % 4) * 8;
        keys[r][p] = load_cached(cache.keys + at, key < place.at);
        values[r][p] = load_cached(cache.values + at, key < place.at);
      }
    }
  }

  // From here on a lane has of each value's word the column `lane / 4` of keys 2 * (lane % 4) and the next.
  __device__ __forceinline__ void transpose_values() {
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int p = 0; p < 2; ++p)
        values[r][p] = make_uint4(transpose(values[r][p].x), transpose(values[r][p].y), transpose(values[r][p].z),
                                  transpose(values[r][p].w));
  }
};

// What the query gathers from a warp's `count` keys.
__device__ __forceinline__ void attend(const Keys& own, int count, const half_bits* query, Parts& parts) {
  // The order of the products in a dot product is free: a lane's pieces stand for inputs 2 i, 2 i + 1, 2 i + 8, 2 i + 9 of
  // each of two steps of sixteen, of the keys and the query alike. The query's are all eight rows of a product, those of one
  // step the upper, of the other the lower ones; beside the keys' of the other step, a row is of no use.
  float scores[2][2][4] = {};  // of keys r * 8 + 2 * (lane % 4) and the next, by either step
#pragma unroll
  for (int p = 0; p < 2; ++p) {
    const uint4 q = piece_of(query, p * 4 + lane_id() % 4);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const unsigned both[4] = {q.x, q.z, q.y, q.w};
      multiply(both, own.keys[r][p].x, own.keys[r][p].y, scores[r][0]);
      multiply(both, own.keys[r][p].z, own.keys[r][p].w, scores[r][1]);
    }
  }
  float score[2][2], maximum = kNothing;
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool valid = r * 8 + lane_id() % 4 * 2 + i < count;
      score[r][i] = valid ? (scores[r][0][i] + scores[r][1][i + 2]) * kScoreScale : kNothing;
      maximum = fmaxf(maximum, score[r][i]);
    }
  maximum = fmaxf(maximum, __shfl_xor_sync(FULL_WARP, maximum, 1));
  maximum = fmaxf(maximum, __shfl_xor_sync(FULL_WARP, maximum, 2));
  const float reference = maximum + kSixteen;
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int i = 0; i < 2; ++i) score[r][i] = exp2(score[r][i] - reference);
  const float total = sum_over<4>((score[0][0] + score[0][1]) + (score[1][0] + score[1][1]));
  const unsigned low = pack(score[0][0], score[0][1]), high = pack(score[1][0], score[1][1]), weights[4] = {low, low, high, high};
  uint4 gathered[2];
#pragma unroll
  for (int p = 0; p < 2; ++p) {
    const uint4 a = own.values[0][p], b = own.values[1][p];
    float sums[4][4] = {};
    multiply(weights, a.x, b.x, sums[0]);
    multiply(weights, a.y, b.y, sums[1]);
    multiply(weights, a.z, b.z, sums[2]);
    multiply(weights, a.w, b.w, sums[3]);
    gathered[p] = make_uint4(pack(sums[0][0], sums[0][1]), pack(sums[1][0], sums[1][1]), pack(sums[2][0], sums[2][1]),
                             pack(sums[3][0], sums[3][1]));
  }
  if (lane_id() < 8) reinterpret_cast<uint4*>(parts.gathered[warp()])[lane_id()] = lane_id() < 4 ? gathered[0] : gathered[1];
  if (lane_id() == 0) {
    parts.reference[warp()] = reference;
    parts.total[warp()] = total;
  }
}

// The same from the new token's key alone.
__device__ __forceinline__ void attend_newest(const half_bits* qkv, Parts& parts) {
  const unsigned* words = reinterpret_cast<const unsigned*>(qkv);
  float q[2], k[2];
  unpack(words[lane_id()], q[0], q[1]);
  unpack(words[kHeadWidth / 2 + lane_id()], k[0], k[1]);
  const float score = sum_over<32>(fmaf(q[0], k[0], q[1] * k[1])) * kScoreScale;
  reinterpret_cast<unsigned*>(parts.gathered[warp()])[lane_id()] = words[kHeadWidth + lane_id()];
  if (lane_id() == 0) {
    parts.reference[warp()] = score;
    parts.total[warp()] = 1.0f;
  }
}

// What parts count, of which a lane has four: 2 * (lane % 4), the next, and those eight further on.
struct Counts {
  float2 low, high;
  float share;  // of one, of the sum over all

  __device__ __forceinline__ explicit Counts(const Parts& parts) {
    const int first = lane_id() % 4 * 2;
    const float2 a = load2(parts.reference + first), b = load2(parts.reference + first + 8);
    const float2 of_a = load2(parts.total + first), of_b = load2(parts.total + first + 8);
    float most = fmaxf(fmaxf(a.x, a.y), fmaxf(b.x, b.y));
    most = fmaxf(most, __shfl_xor_sync(FULL_WARP, most, 1));
    most = fmaxf(most, __shfl_xor_sync(FULL_WARP, most, 2));
    low = float2{exp2(a.x - most), exp2(a.y - most)};
    high = float2{exp2(b.x - most), exp2(b.y - most)};
    const float own = fmaf(low.x, of_a.x, low.y * of_a.y) + fmaf(high.x, of_b.x, high.y * of_b.y);
    share = __fdividef(1.0f, sum_over<4>(own));
  }

  // The sum of what the lanes' parts are worth, each lane's in the columns of two products.
  __device__ __forceinline__ float apply(float low_first, float low_second, float high_first, float high_second) const {
    return share * sum_over<4>(fmaf(low.x, low_first, low.y * low_second) + fmaf(high.x, high_first, high.y * high_second));
  }
};

// The block's parts as one, to every block of the cluster. Eight lanes share a column; each sends it to another block.
__device__ __forceinline__ void send_part(Exchange& box, int rank) {
  const Parts& own = box.of_warps;
  const int column = threadIdx.x / 8, peer = lane_id() % 8, first = peer * 2;
  const float2 references = load2(own.reference + first), totals = load2(own.total + first);
  float most = fmaxf(references.x, references.y);
#pragma unroll
  for (int step = 4; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(FULL_WARP, most, step));
  const float reference = most + kSixteen, one = exp2(references.x - reference), two = exp2(references.y - reference);
  const float all = sum_over<8>(fmaf(one, totals.x, two * totals.y));
  const float value =
      sum_over<8>(one * to_float(own.gathered[first][column]) + two * to_float(own.gathered[first + 1][column]));
  const unsigned pair = pack(value, __shfl_down_sync(FULL_WARP, value, 8));
  Parts& others = box.of_blocks;
  if (column % 2 == 0) send_word(&others.gathered[rank][column], &box.parts_mail, peer, pair);
  if (column == 0) {
    send(&others.reference[rank], &box.parts_mail, peer, reference);
    send(&others.total[rank], &box.parts_mail, peer, all);
  }
}

// ---- the two halves of a layer

struct AttentionWeights {  // a block's, as they are packed; of the first layer's rows also the sums
  half_bits qkv[kQkvRows][WIDTH + kPad];
  float row_sum[kQkvRows], row_bias[kQkvRows];
  half_bits column_bias[kColumns], projection[kColumns][kHeadWidth + kPad];
};

struct MlpWeights {
  half_bits fc1[kUnitRows][WIDTH + kPad];
  float row_sum[kUnitRows], row_bias[kUnitRows];
  half_bits column_bias[kColumns], fc2[kColumns][kUnits + kPad];
};

// One thread, once the last ones are in registers.
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

struct Units {  // of the MLP, this cluster's, behind GELU
  half_bits values[kUnits];
  unsigned long long mailbox;
};

struct Shared {
  Cache caches[MOST_LAYERS];
  alignas(COPY_ALIGNMENT) AttentionWeights attention;
  alignas(COPY_ALIGNMENT) MlpWeights mlp;
  alignas(ALIGNMENT) Norm attention_norm, mlp_norm;
  alignas(ALIGNMENT) Scratch scratch;
  alignas(ALIGNMENT) Exchange box;
  alignas(ALIGNMENT) Units units;
  unsigned long long attention_mail, fc1_mail, fc2_mail;  // weights that have come
  unsigned long long attention_read, fc1_read, fc2_read;  // whether the warps that compute have them in registers
};
static_assert(sizeof(Shared) == SHARED_BYTES, "what it is launched with");

// Until this block's own share is there: others' will not be there much earlier.
__device__ __forceinline__ void wait_for_share() {
  barrier(2, kColumns + kGatherers * 32);
  const unsigned from = clock();
  while (clock() - from < kGrace) continue;
}

// What the first cluster's share has beyond the second linear layer's outputs: the bias and the residual.
__device__ __forceinline__ float own_bias(const half_bits* bias, const Place& place) {
  return threadIdx.x < kColumns && place.cluster == 0 ? to_float(bias[threadIdx.x]) : 0.0f;
}

__device__ __forceinline__ float own_residual(const Norm& norm, const Place& place) {
  return threadIdx.x < kColumns && place.cluster == 0 ? norm.hidden[place.rank * kColumns + threadIdx.x] : 0.0f;
}

// What the warps have left of that layer's outputs, and the addend, to the cluster's share.
__device__ __forceinline__ void publish_columns(float rest, const Scratch& scratch, const Place& place, float* share) {
  meet();
  if (threadIdx.x >= kColumns) return;
  const float value = scratch.columns[0][threadIdx.x] + scratch.columns[1][threadIdx.x] + rest;
  publish(share + place.rank * kColumns + threadIdx.x, value);
  asm volatile("bar.arrive 2, %0;" ::"n"(kColumns + kGatherers * 32) : "memory");  // from here on it pays to look for others
}

__device__ __forceinline__ void expect_attention(Shared& shared, const Place& place) {
  Exchange& box = shared.box;
  expect(&box.qkv_mail, sizeof(box.qkv));
  if (!place.alone()) expect(&box.parts_mail, kCluster * kPartBytes);
}

struct Step {  // where a step's tensors are
  const AttentionWeights* attention_weights;  // [layers, blocks]
  const MlpWeights* mlp_weights;
  float *attention_shares, *mlp_shares;  // [layers, kHeads, WIDTH]
  const half_bits* head_weight;  // [vocabulary, WIDTH]
  int layers, vocabulary;
};

// Behind the last layer's weights come the block's first rows of the LM head, kEarlyRows each in the places of a layer's.
constexpr int kEarlyRows = 2 * kWarps;
static_assert(kEarlyRows * WIDTH <= kQkvRows * (WIDTH + kPad) + kColumns * (kHeadWidth + kPad), "as many as there is room for");
static_assert(kEarlyRows * WIDTH <= kUnitRows * (WIDTH + kPad), "likewise");

__device__ __forceinline__ int early_row(int place) { return (blockIdx.x * 2 + place) * kEarlyRows; }

__device__ __forceinline__ void fetch_early_rows(void* own, int place, const Step& step, unsigned long long* mailbox) {
  const int rows = max(min(step.vocabulary - early_row(place), kEarlyRows), 0), bytes = rows * WIDTH * sizeof(half_bits);
  expect(mailbox, bytes);
  fetch_into(own, step.head_weight + static_cast<long long>(early_row(place)) * WIDTH, bytes, mailbox);
}

// The next time that these mailboxes will be full.
__device__ __forceinline__ void expect_hidden(Norm& norm) { expect(&norm.mailbox, sizeof(norm.hidden)); }

// One thread, before all else.
__device__ __forceinline__ void prepare(Shared& shared, const Step& step, const Place& place) {
  open_mailbox(&shared.attention_norm.mailbox);
  open_mailbox(&shared.mlp_norm.mailbox);
  open_mailbox(&shared.attention_mail);
  open_mailbox(&shared.fc1_mail);
  open_mailbox(&shared.fc2_mail);
  open_mailbox(&shared.box.qkv_mail);
  open_mailbox(&shared.box.parts_mail);
  open_mailbox(&shared.units.mailbox);
  open_meeting(&shared.attention_read);
  open_meeting(&shared.fc1_read);
  open_meeting(&shared.fc2_read);
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  fetch_attention(shared.attention, step.attention_weights, &shared.attention_mail);
  expect_hidden(shared.attention_norm);
  expect_hidden(shared.mlp_norm);
  expect_attention(shared, place);
  expect(&shared.units.mailbox, sizeof(shared.units.values));
}

// Which weights of a layer the threads that compute have read, for the warp that orders others in their place. They have met since.
// The mailbox tells when, in a wait that has an end; the barrier, which all have reached by then, orders their reads before the
// copies, and compute-sanitizer knows it.
enum Read { kAttention = 3, kFc1, kFc2 };  // numbers of barriers

template <int kWhat>
__device__ __forceinline__ void tell_read(unsigned long long* mailbox) {
  asm volatile("bar.arrive %0, %1;" ::"n"(kWhat), "n"(kThreads + 32) : "memory");
  arrive(mailbox);
}

__device__ __forceinline__ void await_read(Read what, unsigned long long* mailbox, int turn, Patience& patience) {
  receive(mailbox, turn, patience);
  barrier(what, kThreads + 32);
}

// What the last warp does: it orders the next layer's weights, or behind the last one the first rows of the LM head, as soon as
// this layer's are in registers; tells mailboxes what to expect next, half a layer or more before it comes; and clears shares.
// It waits for all that the warps that compute wait for, and for these to go on: so no wait of theirs outlasts its patience.
__device__ __forceinline__ void keep(Shared& shared, const Step& step, const Place& place) {
  const bool first = lane_id() == 0;
  Patience patience;
  if (first) {
    fetch_fc1(shared.mlp, step.mlp_weights, &shared.fc1_mail);
    fetch_fc2(shared.mlp, step.mlp_weights, &shared.fc2_mail);
  }
#pragma unroll 1
  for (int l = 0; l < step.layers; ++l) {
    const bool more = l + 1 < step.layers;
    receive(&shared.attention_norm.mailbox, l, patience);  // the layer before is over everywhere
    if (first) expect_hidden(shared.attention_norm);
    if (l > 0) clear(step.attention_shares + (l - 1) * kShares, blockIdx.x, gridDim.x);
    await_read(kAttention, &shared.attention_read, l, patience);
    receive(&shared.attention_mail, l, patience);
    receive(&shared.box.qkv_mail, l, patience);
    if (!place.alone()) receive(&shared.box.parts_mail, l, patience);
    if (first) {
      expect_attention(shared, place);
      if (more)
        fetch_attention(shared.attention, step.attention_weights + (l + 1) * gridDim.x, &shared.attention_mail);
      else
        fetch_early_rows(&shared.attention, 0, step, &shared.attention_mail);
    }
    receive(&shared.mlp_norm.mailbox, l, patience);  // the first half is over everywhere
    if (first) expect_hidden(shared.mlp_norm);
    if (l > 0) clear(step.mlp_shares + (l - 1) * kShares, blockIdx.x, gridDim.x);
    await_read(kFc1, &shared.fc1_read, l, patience);
    receive(&shared.fc1_mail, l, patience);
    if (first) {
      if (more)
        fetch_fc1(shared.mlp, step.mlp_weights + (l + 1) * gridDim.x, &shared.fc1_mail);
      else
        fetch_early_rows(&shared.mlp, 1, step, &shared.fc1_mail);
    }
    await_read(kFc2, &shared.fc2_read, l, patience);
    receive(&shared.fc2_mail, l, patience);
    receive(&shared.units.mailbox, l, patience);
    if (first) {
      expect(&shared.units.mailbox, sizeof(shared.units.values));
      if (more) fetch_fc2(shared.mlp, step.mlp_weights + (l + 1) * gridDim.x, &shared.fc2_mail);
    }
  }
  receive(&shared.attention_norm.mailbox, step.layers, patience);
  clear(step.attention_shares + (step.layers - 1) * kShares, blockIdx.x, gridDim.x);
  receive(&shared.attention_mail, step.layers, patience);  // what the head begins with
  receive(&shared.fc1_mail, step.layers, patience);
}

// What the warps before it do.
__device__ __forceinline__ void gather_all(Shared& shared, const Step& step, const Gatherer& own) {
  Patience patience;
#pragma unroll 1
  for (int l = 0; l < step.layers; ++l) {
    wait_for_share();
    own.gather(step.attention_shares + l * kShares, shared.mlp_norm, patience);
    wait_for_share();
    own.gather(step.mlp_shares + l * kShares, shared.attention_norm, patience);
  }
}

// `turn`: how often the mailboxes have been full before.
__device__ __forceinline__ void attention_half(Shared& shared, const Place& place, int turn, Keys& own, float* share) {
  const AttentionWeights& weights = shared.attention;
  Exchange& box = shared.box;
  const int count = place.keys();
  receive(&shared.attention_mail, turn);
  RowWeights<kQkvRows> rows;
  rows.fetch(weights.qkv[0], weights.row_sum, weights.row_bias);
  if (count > 0) own.transpose_values();
  receive(&shared.attention_norm.mailbox, turn);
  const float result = rows.apply(shared.attention_norm, shared.scratch);
  const float next = __shfl_down_sync(FULL_WARP, result, 16);
  if (warp() * 2 < kQkvRows) {
    const int output = place.rank * kQkvRows + warp() * 2, kind = output / kHeadWidth;
    const unsigned pair = pack(result, next);
    if (lane_id() < kCluster) send_word(box.qkv + output, &box.qkv_mail, lane_id(), pair);
    const Cache cache = shared.caches[turn];
    if (lane_id() == kCluster && kind > 0)
      *reinterpret_cast<unsigned*>((kind == 1 ? cache.keys : cache.values) + place.head() +
                                   static_cast<long long>(place.at) * kHeadWidth + output % kHeadWidth) = pair;
  }
  ColumnWeights<kHeadWidth> columns;
  columns.fetch(weights.projection[0]);
  const float rest = own_bias(weights.column_bias, place) + own_residual(shared.attention_norm, place);
  if (count > 0) {
    receive(&box.qkv_mail, turn);
    attend(own, count, box.qkv, box.of_warps);
  } else if (place.has_newest()) {
    receive(&box.qkv_mail, turn);
    attend_newest(box.qkv, box.of_warps);
  }
  meet();
  tell_read<kAttention>(&shared.attention_read);
  if (!place.alone()) {
    send_part(box, place.rank);
    receive(&box.parts_mail, turn);
  }
  if (columns.has_any()) {
    const Parts& parts = place.alone() ? box.of_warps : box.of_blocks;
    float sums[2][4] = {};  // of parts 0 to 7, and 8 to 15: a part a column
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const uint4 x = piece_of(parts.gathered[n * 8 + lane_id() / 4], columns.piece(0));
      multiply(columns.words[0], x.x, x.y, sums[n]);
      multiply(columns.words[1], x.z, x.w, sums[n]);
    }
    const Counts counts(parts);
    leave_columns(counts.apply(sums[0][0], sums[0][1], sums[1][0], sums[1][1]),
                  counts.apply(sums[0][2], sums[0][3], sums[1][2], sums[1][3]), shared.scratch);
  }
  publish_columns(rest, shared.scratch, place, share);
}

// It also asks for the keys and values of the next layer.
__device__ __forceinline__ void mlp_half(Shared& shared, const Place& place, int turn, const Cache& next_cache, Keys& next_keys,
                                         float* share) {
  const MlpWeights& weights = shared.mlp;
  receive(&shared.fc1_mail, turn);
  RowWeights<kUnitRows> rows;
  rows.fetch(weights.fc1[0], weights.row_sum, weights.row_bias);
  const float bias = own_bias(weights.column_bias, place);
  receive(&shared.mlp_norm.mailbox, turn);
  const float result = gelu(rows.apply(shared.mlp_norm, shared.scratch));
  tell_read<kFc1>(&shared.fc1_read);
  const float next = __shfl_down_sync(FULL_WARP, result, 16);
  if (lane_id() < kCluster)
    send_word(shared.units.values + place.rank * kUnitRows + warp() * 2, &shared.units.mailbox, lane_id(), pack(result, next));
  const float rest = bias + own_residual(shared.mlp_norm, place);
  next_keys.fetch(next_cache, place);
  receive(&shared.fc2_mail, turn);
  ColumnWeights<kUnits> columns;
  columns.fetch(weights.fc2[0]);
  if (columns.has_any()) {
    receive(&shared.units.mailbox, turn);
    float sums[4][4] = {};
#pragma unroll
    for (int pair = 0; pair < columns.kSteps / 2; ++pair) {
      const uint4 x = piece_of(shared.units.values, columns.piece(pair));
      multiply(columns.words[pair * 2], x.x, x.y, sums[pair % 2 * 2]);
      multiply(columns.words[pair * 2 + 1], x.z, x.w, sums[pair % 2 * 2 + 1]);
    }
    leave_columns((sums[0][0] + sums[1][0]) + (sums[2][0] + sums[3][0]), (sums[0][2] + sums[1][2]) + (sums[2][2] + sums[3][2]),
                  shared.scratch);
  }
  publish_columns(rest, shared.scratch, place, share);
  tell_read<kFc2>(&shared.fc2_read);
}

// ---- the LM head, and the most likely token

struct Head {
  float4 low[kChunks], high[kChunks];  // of the normalised row, as a lane's pieces of weights need it
  half_bits* logits;
  int vocabulary;
  Choice top = kNoChoice;

  __device__ __forceinline__ Head(const half_bits* normal, half_bits* logits, int vocabulary)
      : logits(logits), vocabulary(vocabulary) {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const uint4 x = piece_of(normal, c * 32 + lane_id());
      low[c] = to_floats(make_uint2(x.x, x.y));
      high[c] = to_floats(make_uint2(x.z, x.w));
    }
  }

  __device__ __forceinline__ void apply(const uint4 (&weights)[kChunks], int row) {
    float sum = 0.0f;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) sum += dot(weights[c], low[c], high[c]);
    const half_bits logit = to_half(sum_over<32>(sum));
    if (row >= vocabulary) return;
    if (lane_id() == 0) logits[row] = logit;
    top = better(top, choice(logit, row));
  }

  // Rows in shared memory, the first of which is `first` of the vocabulary.
  __device__ __forceinline__ void apply_early(const void* rows, int first) {
#pragma unroll 1
    for (int row = warp(); row < kEarlyRows; row += kWarps) {
      uint4 weights[kChunks];
#pragma unroll
      for (int c = 0; c < kChunks; ++c) weights[c] = piece_of(static_cast<const half_bits*>(rows) + row * WIDTH, c * 32 + lane_id());
      apply(weights, first + row);
    }
  }
};

struct HeadRows {  // a warp's at a time
  uint4 weights[kHeadRows][kChunks];
  int first;

  // Past the end the last row again, whose result is dropped.
  __device__ __forceinline__ void fetch(const half_bits* weight, int row, int vocabulary) {
    first = row;
#pragma unroll
    for (int r = 0; r < kHeadRows; ++r)
#pragma unroll
      for (int c = 0; c < kChunks; ++c)
        weights[r][c] =
            load_weights(weight + static_cast<long long>(min(first + r, vocabulary - 1)) * WIDTH + (c * 32 + lane_id()) * 8);
  }

  // The first of those that are left to all warps.
  __device__ static __forceinline__ int start() { return gridDim.x * 2 * kEarlyRows + (blockIdx.x * kWarps + warp()) * kHeadRows; }

  // These rows, which have been fetched, and all others of this warp.
  __device__ __forceinline__ void apply(Head& head, const half_bits* weight) {
    const int stride = gridDim.x * kWarps * kHeadRows;
    while (first < head.vocabulary) {
      HeadRows next;
      if (first + stride < head.vocabulary) next.fetch(weight, first + stride, head.vocabulary);
      next.first = first + stride;
#pragma unroll
      for (int r = 0; r < kHeadRows; ++r) head.apply(weights[r], first + r);
      *this = next;
    }
  }
};

// The best of a block's warps, for the first of them.
__device__ __forceinline__ Choice best_of_block(Choice top, Choice (&of_warps)[kWarps]) {
  if (lane_id() == 0) of_warps[warp()] = top;
  meet();
  return best_of_lanes<32>(of_warps[lane_id() % kWarps]);
}

// `best` has each block's, or kUnknown, which no logit and token yield.
constexpr Choice kUnknown = static_cast<Choice>(ABSENT);

__device__ __forceinline__ void publish_best(Choice top, Choice* best) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(best + blockIdx.x), "l"(top) : "memory");
}

__device__ __forceinline__ Choice look(const Choice* best) {
  Choice seen;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(seen) : "l"(best) : "memory");
  return seen;
}

// The best of a block, which is put back to kUnknown; none where there is no such block.
__device__ __forceinline__ Choice best_of(Choice* best, int block) {
  if (block >= gridDim.x) return kNoChoice;
  Patience patience;
  Choice seen;
  while ((seen = look(best + block)) == kUnknown) patience.spend();
  best[block] = kUnknown;
  return seen;
}

// A cooperative launch. Shares are [layers, kHeads, WIDTH], of both halves. The next token and its position
// are written over those given.
extern "C" __global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kAllThreads, 1)
    gpt2_decode_step(long long* token, long long* position, const half_bits* token_embedding,
                     const half_bits* position_embedding, const AttentionWeights* attention_weights,
                     const MlpWeights* mlp_weights, const Cache* caches, const half_bits* gamma, const half_bits* beta,
                     const half_bits* head_weight, float* attention_shares, float* mlp_shares, Choice* best,
                     half_bits* logits, int layer_count, int length, int vocabulary) {
  extern __shared__ __align__(COPY_ALIGNMENT) unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  __shared__ Choice best_of_warps[kWarps];
  const long long at = *position, first_token = *token;
  if (at < 0 || at >= length) __trap();  // the cache has no such row
  if (first_token < 0 || first_token >= vocabulary) __trap();
  const Place place{static_cast<int>(blockIdx.x) / kCluster, static_cast<int>(rank_in_cluster()), static_cast<int>(at), length};
  const Step step{attention_weights, mlp_weights, attention_shares, mlp_shares, head_weight, layer_count, vocabulary};
  if (warp() == kKeeper) {
    if (lane_id() == 0) prepare(shared, step, place);
    meet_cluster();
    keep(shared, step, place);
  } else if (warp() >= kWarps) {
    const Gatherer own;
    const float4 embedded = own.embed(token_embedding + first_token * WIDTH, position_embedding + at * WIDTH);
    meet_cluster();
    if (own.has_any()) own.tell(embedded, shared.attention_norm);
    gather_all(shared, step, own);
  } else {
    if (threadIdx.x < layer_count) shared.caches[threadIdx.x] = caches[threadIdx.x];
    shared.box.of_warps.clear();
    shared.box.of_blocks.clear();
    meet_cluster();
    Keys keys;
    keys.fetch(shared.caches[0], place);
#pragma unroll 1
    for (int l = 0; l < layer_count; ++l) {
      Place here = place;  // as if it were another one, so that what follows from it is not kept in registers for all layers
      asm volatile("" : "+r"(here.cluster), "+r"(here.rank), "+r"(here.at), "+r"(here.length));
      const int own = l * kShares + here.cluster * WIDTH;
      attention_half(shared, here, l, keys, attention_shares + own);
      mlp_half(shared, here, l, shared.caches[min(l + 1, layer_count - 1)], keys, mlp_shares + own);
    }
    HeadRows rows;
    rows.fetch(head_weight, HeadRows::start(), vocabulary);
    normalise(shared.attention_norm, gamma, beta, shared.scratch, layer_count);
    Head head(shared.scratch.normal, logits, vocabulary);
    receive(&shared.attention_mail, layer_count);
    head.apply_early(&shared.attention, early_row(0));
    receive(&shared.fc1_mail, layer_count);
    head.apply_early(&shared.mlp, early_row(1));
    rows.apply(head, head_weight);
    const Choice top = best_of_block(head.top, best_of_warps);
    if (threadIdx.x == 0) publish_best(top, best);
    if (blockIdx.x == 0) {
      meet();
      const Choice all = best_of_block(best_of_lanes<32>(best_of(best, threadIdx.x)), best_of_warps);
      if (threadIdx.x == 0) {  // all blocks have read both by now
        *token = chosen_token(all);
        *position = at + 1;
      }
      clear(mlp_shares + (layer_count - 1) * kShares, warp(), kWarps);  // as they have this
    }
  }
  meet_cluster();  // a block must not end before what was sent to it has come
}
