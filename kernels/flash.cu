// Causal attention of whole prompts, FlashAttention's forward pass, for heads 64 wide: FP16 in and out, FP32 softmax.
//
// A block takes kQueries queries of a head and walks over the keys that they see, a tile at a time. A warp owns kWarpRows
// of the queries: their scores, shares and sums never leave its registers, because what m16n8k8 leaves as scores of 16 by 8
// is, packed to halves, just what it takes as shares of 16 by 8. KEY_GROUPS groups of warps take every so many tiles each,
// for the same queries, and add up at the end: that is what keeps a chip busy that has few heads to work on.
//
// Turing has ldmatrix and m16n8k8; it lacks cp.async, m16n8k16 and large shared memory. So the next tile is on its way
// through registers while this one is computed with, and a block's shared memory is 32 KB. From 8.0 on two m16n8k8 are one
// m16n8k16 over the same registers; with PLAIN they stay two, so that Turing's path can be run on a newer chip.
//
// Compiled with ROW_WARPS, ROW_TILES (16 rows of a warp each), KEY_GROUPS, TILE_KEYS and BLOCKS (of a multiprocessor).

#include "half.cuh"

constexpr int kHeadWidth = 64;
constexpr int kChunks = kHeadWidth / 8;  // of 16 bytes, in a row of a head
constexpr int kOctets = TILE_KEYS / 8;
constexpr int kWarpRows = 16 * ROW_TILES;
constexpr int kQueries = ROW_WARPS * kWarpRows;
constexpr int kGroupThreads = ROW_WARPS * 32;
constexpr int kLoads = TILE_KEYS * kChunks / kGroupThreads;  // of a thread, for the keys or the values of a tile
constexpr int kRowStep = kGroupThreads / kChunks;
constexpr float kScale = 0.125f * 1.4426950408889634f;       // 1 / sqrt(64), and powers of two instead of e
constexpr float kNothing = -1e30f;                           // a hidden score; finite, so that differences are numbers

static_assert(kLoads * kGroupThreads == TILE_KEYS * kChunks && TILE_KEYS % 32 == 0, "a tile is shared out evenly");

// Rows of 128 bytes begin in the same bank. Chunk c of row r is kept at place c ^ (r % 8): eight rows' same chunk, as
// ldmatrix reads, and one row's eight chunks, as the threads store, then lie in all banks once.
struct Tile {
  uint4 chunks[TILE_KEYS][kChunks];
  __device__ __forceinline__ uint4* at(int row, int chunk) { return &chunks[row][chunk ^ row % 8]; }
};

struct Stage {
  Tile keys, values;
};

struct Staged {  // a thread's share of a tile that is on its way
  uint4 chunks[kLoads];
};

typedef float Scores[ROW_TILES][kOctets][4];

// What a group hands over at the end, in the layout of the lanes.
struct Partial {
  float sums[ROW_TILES][kChunks][4][32], maximum[ROW_TILES][2][32], total[ROW_TILES][2][32];
};

union Shared {
  Stage stages[KEY_GROUPS][2];
  Partial partials[KEY_GROUPS > 1 ? KEY_GROUPS - 1 : 1][ROW_WARPS];
  uint4 out[ROW_WARPS][kWarpRows][kChunks];
};

__device__ __forceinline__ float exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// Four 8 by 8 matrices, whose rows' addresses the lanes give, eight lanes a matrix; lane l gets elements 2 (l % 4) and the
// next of row l / 4, transposed of column l / 4. Volatile, so that none moves across a barrier.
__device__ __forceinline__ void load_matrices(const uint4* row, unsigned (&first)[2], unsigned (&second)[2]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(first[0]), "=r"(first[1]), "=r"(second[0]), "=r"(second[1])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row))));
}

__device__ __forceinline__ void load_transposed(const uint4* row, unsigned (&first)[2], unsigned (&second)[2]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(first[0]), "=r"(first[1]), "=r"(second[0]), "=r"(second[1])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row))));
}

__device__ __forceinline__ void multiply_8(float (&sums)[4], unsigned a0, unsigned a1, unsigned b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(b));
}

__device__ __forceinline__ void multiply_16(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// sums[n] += a * b[n] of 16 by 16 and 16 by 8, each in two halves of the inner dimension.
template <int kCount>
__device__ __forceinline__ void multiply(float (*sums)[4], const unsigned (&a)[4], const unsigned (&b)[kCount][2]) {
#if __CUDA_ARCH__ >= 800 && !defined(PLAIN)
#pragma unroll
  for (int n = 0; n < kCount; ++n) multiply_16(sums[n], a, b[n]);
#else
#pragma unroll
  for (int n = 0; n < kCount; ++n) multiply_8(sums[n], a[0], a[1], b[n][0]);
#pragma unroll
  for (int n = 0; n < kCount; ++n) multiply_8(sums[n], a[2], a[3], b[n][1]);
#endif
}

__device__ __forceinline__ void group_barrier(int group) {
  asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "r"(kGroupThreads) : "memory");
}

// Rows `first` and on; past the last row that one again, which no query sees there.
__device__ __forceinline__ void fetch(Staged& staged, const half_bits* rows, int stride, int first, int tokens) {
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const int row = first + threadIdx.x % kGroupThreads / kChunks + i * kRowStep;
    staged.chunks[i] = load_eight(rows + min(row, tokens - 1) * stride + threadIdx.x % kChunks * 8);
  }
}

__device__ __forceinline__ void put(Tile& tile, const Staged& staged) {
#pragma unroll
  for (int i = 0; i < kLoads; ++i)
    *tile.at(threadIdx.x % kGroupThreads / kChunks + i * kRowStep, threadIdx.x % kChunks) = staged.chunks[i];
}

// A warp's queries and what they have gathered. Of 16 rows, lane l holds row l / 4 and the eighth after it; of a pair's
// 8 columns, 2 (l % 4) and the next.
struct Queries {
  unsigned q[ROW_TILES][kChunks / 2][4];
  float sums[ROW_TILES][kChunks][4];
  float maximum[ROW_TILES][2], total[ROW_TILES][2];  // the total is of this lane's columns alone until the end

  __device__ __forceinline__ void begin(const half_bits* query, int stride, int first, int tokens) {
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = min(first + m * 16 + half * 8 + lane() / 4, tokens - 1);
        const half_bits* from = query + row * stride + lane() % 4 * 2;
        maximum[m][half] = kNothing;
        total[m][half] = 0.0f;
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
          q[m][c / 2][c % 2 * 2 + half] = *reinterpret_cast<const unsigned*>(from + c * 8);
          sums[m][c][half * 2] = sums[m][c][half * 2 + 1] = 0.0f;
        }
      }
  }

  // The shares of a tile of keys from `key` on; `first` is the warp's first row, and both count tokens.
  __device__ __forceinline__ void score(Scores& scores, Tile& keys, int key, int first) {
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
      for (int o = 0; o < kOctets; ++o)
#pragma unroll
        for (int e = 0; e < 4; ++e) scores[m][o][e] = 0.0f;
#pragma unroll
    for (int c = 0; c < kChunks; c += 2) {
      unsigned k[kOctets][2];
#pragma unroll
      for (int o = 0; o < kOctets; o += 2)
        load_matrices(keys.at(o * 8 + lane() / 16 * 8 + lane() % 8, c + lane() / 8 % 2), k[o], k[o + 1]);
#pragma unroll
      for (int m = 0; m < ROW_TILES; ++m) multiply(scores[m], q[m][c / 2], k);
    }
    if (key + TILE_KEYS - 1 > first) hide_later_keys(scores, key, first);
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m) soften(scores[m], m);
  }

  __device__ __forceinline__ void gather(const Scores& scores, Tile& values) {
#pragma unroll
    for (int o = 0; o < kOctets; o += 2) {
      unsigned shares[ROW_TILES][4];
#pragma unroll
      for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          shares[m][i] = pack(scores[m][o + i / 2][i % 2 * 2], scores[m][o + i / 2][i % 2 * 2 + 1]);
#pragma unroll
      for (int c = 0; c < kChunks; c += 4) {
        unsigned v[4][2];
        load_transposed(values.at(o * 8 + lane() % 16, c + lane() / 16), v[0], v[1]);
        load_transposed(values.at(o * 8 + lane() % 16, c + 2 + lane() / 16), v[2], v[3]);
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m) multiply(&sums[m][c], shares[m], v);
      }
    }
  }

  __device__ __forceinline__ void hide_later_keys(Scores& scores, int key, int first) {
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
      for (int o = 0; o < kOctets; ++o)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (key + o * 8 + lane() % 4 * 2 + e % 2 > first + m * 16 + e / 2 * 8 + lane() / 4) scores[m][o][e] = kNothing;
  }

  // Scores become shares of the largest score so far; what was gathered under an older maximum shrinks.
  __device__ __forceinline__ void soften(float (&scores)[kOctets][4], int m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = maximum[m][half];
#pragma unroll
      for (int o = 0; o < kOctets; ++o) top = fmaxf(top, fmaxf(scores[o][half * 2], scores[o][half * 2 + 1]));
      top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 1));
      top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 2));
      shrink(m, half, exp2((maximum[m][half] - top) * kScale));
      maximum[m][half] = top;
#pragma unroll
      for (int o = 0; o < kOctets; ++o)
#pragma unroll
        for (int e = half * 2; e < half * 2 + 2; ++e) {
          scores[o][e] = exp2(fmaf(scores[o][e], kScale, -top * kScale));
          total[m][half] += scores[o][e];
        }
    }
  }

  __device__ __forceinline__ void shrink(int m, int half, float by) {
    total[m][half] *= by;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      sums[m][c][half * 2] *= by;
      sums[m][c][half * 2 + 1] *= by;
    }
  }

  __device__ __forceinline__ void hand_over(Partial& partial) {
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        partial.maximum[m][half][lane()] = maximum[m][half];
        partial.total[m][half][lane()] = total[m][half];
      }
#pragma unroll
      for (int c = 0; c < kChunks; ++c)
#pragma unroll
        for (int e = 0; e < 4; ++e) partial.sums[m][c][e][lane()] = sums[m][c][e];
    }
  }

  __device__ __forceinline__ void take_over(const Partial& partial) {
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float other = partial.maximum[m][half][lane()], top = fmaxf(maximum[m][half], other);
        const float share = exp2((other - top) * kScale);
        shrink(m, half, exp2((maximum[m][half] - top) * kScale));
        maximum[m][half] = top;
        total[m][half] = fmaf(share, partial.total[m][half][lane()], total[m][half]);
#pragma unroll
        for (int c = 0; c < kChunks; ++c)
#pragma unroll
          for (int e = half * 2; e < half * 2 + 2; ++e)
            sums[m][c][e] = fmaf(share, partial.sums[m][c][e][lane()], sums[m][c][e]);
      }
  }

  // Write the warp's rows, in whole lines by way of its own corner of shared memory.
  __device__ __forceinline__ void finish(uint4 (&corner)[kWarpRows][kChunks], half_bits* out, int stride, int first,
                                         int tokens) {
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float all = total[m][half];
        all += __shfl_xor_sync(FULL_WARP, all, 1);
        all += __shfl_xor_sync(FULL_WARP, all, 2);
        const float share = __fdividef(1.0f, all);
        const int row = m * 16 + half * 8 + lane() / 4;
#pragma unroll
        for (int c = 0; c < kChunks; ++c)
          reinterpret_cast<unsigned*>(&corner[row][c ^ row % 8])[lane() % 4] =
              pack(sums[m][c][half * 2] * share, sums[m][c][half * 2 + 1] * share);
      }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kWarpRows; i += 4) {
      const int row = i + lane() / kChunks, chunk = lane() % kChunks;
      if (first + row < tokens)
        store_eight(out + (first + row) * stride + chunk * 8, corner[row][chunk ^ row % 8]);
    }
  }
};

// Element (batch, head, token, i) of the queries lies at batch * query_batch + head * query_head + token * query_row + i,
// those of keys and values likewise; `out` is [batch, tokens, heads, 64]. The grid is heads * batch by blocks of queries.
extern "C" __global__ void __launch_bounds__(kGroupThreads* KEY_GROUPS, BLOCKS)
    gpt2_flash_attention(const half_bits* query, const half_bits* keys, const half_bits* values, half_bits* out, int tokens,
                         int heads, int query_batch, int query_head, int query_row, int key_batch, int key_head,
                         int key_row) {
  __shared__ Shared shared;
  release_next();
  await_previous();
  const int batch = blockIdx.x / heads, head = blockIdx.x % heads;
  query += static_cast<long long>(batch) * query_batch + static_cast<long long>(head) * query_head;
  keys += static_cast<long long>(batch) * key_batch + static_cast<long long>(head) * key_head;
  values += static_cast<long long>(batch) * key_batch + static_cast<long long>(head) * key_head;
  const int start = (gridDim.y - 1 - blockIdx.y) * kQueries;  // the queries that see most are launched first
  const int group = warp() / ROW_WARPS, own = warp() % ROW_WARPS, first = start + own * kWarpRows;
  const int end = min(start + kQueries, tokens);  // of the keys that any query here sees
  Queries queries;
  Staged staged;
  int key = group * TILE_KEYS;
  fetch(staged, keys, key_row, key, tokens);
  put(shared.stages[group][0].keys, staged);
  fetch(staged, values, key_row, key, tokens);
  queries.begin(query, query_row, first, tokens);
  put(shared.stages[group][0].values, staged);
  group_barrier(group);
#pragma unroll 1
  for (int turn = 0; key < end; turn ^= 1) {
    const int next = key + KEY_GROUPS * TILE_KEYS;
    const bool more = next < end, sees = key < first + kWarpRows;
    Stage &here = shared.stages[group][turn], &there = shared.stages[group][turn ^ 1];
    Scores scores;
    if (more) fetch(staged, keys, key_row, next, tokens);
    if (sees) queries.score(scores, here.keys, key, first);
    if (more) {
      put(there.keys, staged);
      fetch(staged, values, key_row, next, tokens);
    }
    if (sees) queries.gather(scores, here.values);
    if (more) put(there.values, staged);
    group_barrier(group);
    key = next;
  }
  if (KEY_GROUPS > 1) {
    __syncthreads();
    if (group > 0) queries.hand_over(shared.partials[group - 1][own]);
    __syncthreads();
    if (group > 0) return;
#pragma unroll
    for (int other = 0; other < KEY_GROUPS - 1; ++other) queries.take_over(shared.partials[other][own]);
    __syncwarp();  // its corner may be where its own partial results were
  }
  queries.finish(shared.out[own], out + (static_cast<long long>(batch) * tokens * heads + head) * kHeadWidth,
                 heads * kHeadWidth, first, tokens);
}
