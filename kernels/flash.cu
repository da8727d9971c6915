// Causal attention of whole prompts, FlashAttention's forward pass, for heads 64 wide: FP16 in and out, FP32 softmax.
//
// A block takes 64 queries of a head and walks over the keys that they see, a tile at a time. A warp owns 16 of the
// queries: their scores, shares and sums never leave its registers, because what mma leaves as scores of 16 by 8 is, packed
// to halves, just what it takes as shares of 16 by 8. With several groups of warps a block's tiles are dealt out among
// them, and what they gathered is added up at the end: that keeps a chip busy that has few heads to work on.
//
// Turing has ldmatrix and m16n8k8; it lacks cp.async, m16n8k16 and shared memory beyond 64 KB. So the next tile is on its
// way through registers while this one is computed with, and two stages take 32 KB, 48 KB with three groups. From 8.0 on
// two m16n8k8 are one m16n8k16 over the same registers.
//
// Compiled with HEAD_WIDTH; QUERIES, of a block; GROUP_THREADS; KEY_GROUPS; TILE_KEYS, a multiple of 16; and BLOCKS, for so many
// of which a multiprocessor has registers.

#include "half.cuh"

constexpr int kHeadWidth = HEAD_WIDTH;
constexpr int kChunks = kHeadWidth / 8;  // of 16 bytes, in a row of a head
constexpr int kOctets = TILE_KEYS / 8;   // of keys, in a tile
constexpr int kQueries = QUERIES, kGroupThreads = GROUP_THREADS;
constexpr int kWarps = kGroupThreads / 32;      // of a group
constexpr int kWarpRows = kQueries / kWarps;    // queries of a warp
static_assert(kWarpRows == 16 && kHeadWidth == 64, "the rows of a matrix instruction, and what a warp's registers hold");
constexpr int kRowStep = kGroupThreads / kChunks;     // rows that a group moves at once
constexpr int kLoads = TILE_KEYS / kRowStep;          // of a thread, for the keys of a tile, and as many for its values
constexpr float kScale = static_cast<float>(inverse_root(kHeadWidth)) * 1.4426950408889634f;  // for powers of two instead of e
constexpr float kNothing = -1e30f;                    // a hidden score; finite, so that differences are numbers

// Rows of 128 bytes begin in the same bank. Chunk c of row r is kept at place c ^ (r % 8): eight rows' same chunk, as
// ldmatrix reads, and one row's eight chunks, as the threads store, then lie in all banks once.
struct Tile {
  uint4 chunks[TILE_KEYS][kChunks];
  __device__ __forceinline__ uint4* at(int row, int chunk) { return &chunks[row][chunk ^ row % 8]; }
};

struct Stage {
  Tile keys, values;
};

struct Staged {  // a thread's share of a stage that is on its way
  uint4 keys[kLoads], values[kLoads];
};

// What a warp hands over at the end, as its lanes hold it.
struct Partial {
  float sums[kChunks][4][32], maximum[2][32], total[2][32];
};

union Shared {
  Stage stages[KEY_GROUPS][2];
#if KEY_GROUPS > 1
  Partial partials[KEY_GROUPS - 1][kWarps];
#endif
  uint4 out[kWarps][kWarpRows][kChunks];
};

// sums[n] += a * b[n].
template <int kCount>
__device__ __forceinline__ void multiply(float (&sums)[kCount][4], const unsigned (&a)[4], const unsigned (&b)[kCount][2]) {
#pragma unroll
  for (int n = 0; n < kCount; ++n) multiply_16(sums[n], a, b[n]);
}

__device__ __forceinline__ void group_barrier(int group) { barrier(group + 1, kGroupThreads); }

// ---- a tile on its way: global memory, registers, shared memory

__device__ __forceinline__ int staged_row(int i) { return threadIdx.x % kGroupThreads / kChunks + i * kRowStep; }

// Keys, and values `width` beyond, from row `first` on; past the last row that one again, which no query sees.
__device__ __forceinline__ void fetch(Staged& staged, const half_bits* keys, int width, int first, int tokens) {
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const half_bits* from = keys + min(first + staged_row(i), tokens - 1) * 3 * width + threadIdx.x % kChunks * 8;
    staged.keys[i] = load_eight(from);
    staged.values[i] = load_eight(from + width);
  }
}

__device__ __forceinline__ void put(Stage& stage, const Staged& staged) {
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    *stage.keys.at(staged_row(i), threadIdx.x % kChunks) = staged.keys[i];
    *stage.values.at(staged_row(i), threadIdx.x % kChunks) = staged.values[i];
  }
}

// What was fetched from row `first` on also goes to the cache where it is the block's: from row `own` on.
__device__ __forceinline__ void store(const Staged& staged, half_bits* keys, half_bits* values, int length, int first,
                                      int own, int tokens) {
  if (first + TILE_KEYS <= own) return;
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const int row = first + staged_row(i);
    if (row < own || row >= tokens) continue;
    const long long line = blockIdx.x * length + row;
    store_eight(keys + line * kHeadWidth + threadIdx.x % kChunks * 8, staged.keys[i]);
    store_eight(values + line * kHeadWidth + threadIdx.x % kChunks * 8, staged.values[i]);
  }
}

// ---- a warp's queries and what they have gathered

// Of 16 rows, lane l holds row l / 4 and the eighth after it, of each 8 columns 2 (l % 4) and the next: [.. half * 2 + e].
struct Queries {
  unsigned q[kChunks / 2][4];
  float sums[kChunks][4];
  float maximum[2], total[2];  // the total is of this lane's columns alone until the end

  __device__ __forceinline__ void begin(const half_bits* query, int stride, int first, int tokens) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = min(first + half * 8 + lane() / 4, tokens - 1);
      const half_bits* from = query + row * stride + lane() % 4 * 2;
      maximum[half] = kNothing;
      total[half] = 0.0f;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        q[c / 2][c % 2 * 2 + half] = *reinterpret_cast<const unsigned*>(from + c * 8);
        sums[c][half * 2] = sums[c][half * 2 + 1] = 0.0f;
      }
    }
  }

  // Look at a tile of keys from `key` on; `first` is the warp's first row, and both count tokens.
  __device__ __forceinline__ void attend(Stage& stage, int key, int first) {
    float scores[kOctets][4] = {};
#pragma unroll
    for (int c = 0; c < kChunks; c += 2) {
      unsigned k[kOctets][2];
#pragma unroll
      for (int o = 0; o < kOctets; o += 2)
        load_matrices(stage.keys.at(o * 8 + lane() / 16 * 8 + lane() % 8, c + lane() / 8 % 2), k[o], k[o + 1]);
      multiply(scores, q[c / 2], k);
    }
    if (key + TILE_KEYS - 1 > first) hide_later_keys(scores, key, first);
    soften(scores);
#pragma unroll
    for (int o = 0; o < kOctets; o += 2) {
      unsigned shares[4], v[kChunks][2];
#pragma unroll
      for (int i = 0; i < 4; ++i) shares[i] = pack(scores[o + i / 2][i % 2 * 2], scores[o + i / 2][i % 2 * 2 + 1]);
#pragma unroll
      for (int c = 0; c < kChunks; c += 2)
        load_transposed(stage.values.at(o * 8 + lane() % 16, c + lane() / 16), v[c], v[c + 1]);
      multiply(sums, shares, v);
    }
  }

  __device__ __forceinline__ void hide_later_keys(float (&scores)[kOctets][4], int key, int first) {
#pragma unroll
    for (int o = 0; o < kOctets; ++o)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (key + o * 8 + lane() % 4 * 2 + e % 2 > first + e / 2 * 8 + lane() / 4) scores[o][e] = kNothing;
  }

  // Scores become shares of the largest score so far; what was gathered under an older maximum shrinks.
  __device__ __forceinline__ void soften(float (&scores)[kOctets][4]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top[2] = {scores[0][half * 2], scores[0][half * 2 + 1]}, sum[2] = {0.0f, 0.0f};  // two, for shorter chains
#pragma unroll
      for (int o = 1; o < kOctets; ++o)
#pragma unroll
        for (int e = 0; e < 2; ++e) top[e] = fmaxf(top[e], scores[o][half * 2 + e]);
      float most = fmaxf(maximum[half], fmaxf(top[0], top[1]));
      most = fmaxf(most, __shfl_xor_sync(FULL_WARP, most, 1));
      most = fmaxf(most, __shfl_xor_sync(FULL_WARP, most, 2));
      shrink(half, most);
#pragma unroll
      for (int o = 0; o < kOctets; ++o)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& score = scores[o][half * 2 + e];
          score = exp2(fmaf(score, kScale, -most * kScale));
          sum[e] += score;
        }
      total[half] += sum[0] + sum[1];
    }
  }

  // Go on under another maximum, which is at least the last one.
  __device__ __forceinline__ void shrink(int half, float most) {
    const float by = exp2((maximum[half] - most) * kScale);
    maximum[half] = most;
    total[half] *= by;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      sums[c][half * 2] *= by;
      sums[c][half * 2 + 1] *= by;
    }
  }

  __device__ __forceinline__ void hand_over(Partial& partial) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      partial.maximum[half][lane()] = maximum[half];
      partial.total[half][lane()] = total[half];
    }
#pragma unroll
    for (int c = 0; c < kChunks; ++c)
#pragma unroll
      for (int e = 0; e < 4; ++e) partial.sums[c][e][lane()] = sums[c][e];
  }

  // Another group's share of the same queries; one that saw no key has kNothing, and so counts for nothing.
  __device__ __forceinline__ void take_over(const Partial& partial) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float other = partial.maximum[half][lane()], most = fmaxf(maximum[half], other);
      const float share = exp2((other - most) * kScale);
      shrink(half, most);
      total[half] = fmaf(share, partial.total[half][lane()], total[half]);
#pragma unroll
      for (int c = 0; c < kChunks; ++c)
#pragma unroll
        for (int e = half * 2; e < half * 2 + 2; ++e) sums[c][e] = fmaf(share, partial.sums[c][e][lane()], sums[c][e]);
    }
  }

  // Write the warp's rows, in whole lines by way of its own corner of shared memory.
  __device__ __forceinline__ void finish(uint4 (&corner)[kWarpRows][kChunks], half_bits* out, int stride, int first,
                                         int tokens) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float all = total[half];
      all += __shfl_xor_sync(FULL_WARP, all, 1);
      all += __shfl_xor_sync(FULL_WARP, all, 2);
      const float share = __fdividef(1.0f, all);
      const int row = half * 8 + lane() / 4;
#pragma unroll
      for (int c = 0; c < kChunks; ++c)
        reinterpret_cast<unsigned*>(&corner[row][c ^ row % 8])[lane() % 4] =
            pack(sums[c][half * 2] * share, sums[c][half * 2 + 1] * share);
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kWarpRows; i += 4) {
      const int row = i + lane() / kChunks, chunk = lane() % kChunks;
      if (first + row < tokens) store_eight(out + (first + row) * stride + chunk * 8, corner[row][chunk ^ row % 8]);
    }
  }
};

// `qkv` is [batch, tokens, 3, heads, 64], `out` [batch, tokens, heads, 64]; keys and values also go to the beginning of
// the cache, [batch, heads, length, 64]. The grid is batch * heads by blocks of queries.
extern "C" __global__ void __launch_bounds__(kGroupThreads* KEY_GROUPS, BLOCKS)
    gpt2_flash_attention(const half_bits* qkv, half_bits* keys, half_bits* values, half_bits* out, int tokens, int heads,
                         int length) {
  __shared__ Shared shared;
  const int width = heads * kHeadWidth, batch = blockIdx.x / heads, head = blockIdx.x % heads;
  const int start = (gridDim.y - 1 - blockIdx.y) * kQueries;  // the queries that see most are launched first
  const int group = KEY_GROUPS > 1 ? warp() / kWarps : 0, own = warp() % kWarps, first = start + own * kWarpRows;
  const int end = min(start + kQueries, tokens);  // of the keys that any query here sees
  qkv += static_cast<long long>(batch) * tokens * 3 * width + head * kHeadWidth;
  Queries queries;
  queries.begin(qkv, 3 * width, first, tokens);
  Staged staged;
  int key = group * TILE_KEYS;
  if (key < end) {
    fetch(staged, qkv + width, width, key, tokens);
    put(shared.stages[group][0], staged);
    store(staged, keys, values, length, key, start, tokens);
  }
  group_barrier(group);
#pragma unroll 1
  for (int turn = 0; key < end; turn ^= 1) {
    const int next = key + KEY_GROUPS * TILE_KEYS;
    if (next < end) fetch(staged, qkv + width, width, next, tokens);
    if (key < first + kWarpRows) queries.attend(shared.stages[group][turn], key, first);
    if (next < end) {
      put(shared.stages[group][turn ^ 1], staged);
      store(staged, keys, values, length, next, start, tokens);
    }
    group_barrier(group);
    key = next;
  }
#if KEY_GROUPS > 1
  __syncthreads();
  if (group > 0) queries.hand_over(shared.partials[group - 1][own]);
  __syncthreads();
  if (group > 0) return;
#pragma unroll
  for (int other = 0; other < KEY_GROUPS - 1; ++other) queries.take_over(shared.partials[other][own]);
  group_barrier(0);  // a warp's corner may lie where another one's partial results are
#endif
  out += static_cast<long long>(batch) * tokens * width + head * kHeadWidth;
  queries.finish(shared.out[own], out, width, first, tokens);
}
