// What lies between the matrix products of a prefill but for attention: embedding, biases, residual connections, layer
// norms and GELU, FP16 with FP32 arithmetic. Each kernel passes once over its rows, 16 bytes at a time.
//
// Compiled with WIDTH, the embedding's, a multiple of 8; THREADS, of a block; and GELU_ROWS, of a thread behind FC1.

#include "half.cuh"

constexpr int kThreads = THREADS, kRows = GELU_ROWS;
constexpr int kChunks = (WIDTH + 255) / 256;  // of eight halves: a lane's, where a warp holds a row
constexpr float kEpsilon = 1e-5f;

__device__ __forceinline__ int element(int chunk) { return (chunk * 32 + lane()) * 8; }
__device__ __forceinline__ int row_of_warp() { return blockIdx.x * (kThreads / 32) + warp(); }

// A row, WIDTH halves, of a warp.
__device__ __forceinline__ void load_row(const half_bits* from, float (&x)[kChunks][8]) {
#pragma unroll
  for (int c = 0; c < kChunks; ++c) unpack(element(c) < WIDTH ? load_eight(from + element(c)) : make_uint4(0, 0, 0, 0), x[c]);
}

__device__ __forceinline__ void add_row(const half_bits* from, float (&x)[kChunks][8]) {
  float other[kChunks][8];
  load_row(from, other);
#pragma unroll
  for (int c = 0; c < kChunks; ++c)
#pragma unroll
    for (int i = 0; i < 8; ++i) x[c][i] += other[c][i];
}

// Store a warp's row, and go on with it as it is stored.
__device__ __forceinline__ void store_row(half_bits* to, float (&x)[kChunks][8]) {
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const uint4 rounded = pack(x[c]);
    if (element(c) < WIDTH) store_eight(to + element(c), rounded);
    unpack(rounded, x[c]);
  }
}

__device__ __forceinline__ void store_normalised(half_bits* to, const float (&x)[kChunks][8], const half_bits* gamma,
                                                 const half_bits* beta) {
  float sum = 0.0f, squares = 0.0f;
#pragma unroll
  for (int c = 0; c < kChunks; ++c)
#pragma unroll
    for (int i = 0; i < 8; ++i) sum += x[c][i];  // those past the width are zero
  const float mean = warp_sum(sum) / WIDTH;
#pragma unroll
  for (int c = 0; c < kChunks; ++c)
    if (element(c) < WIDTH)
#pragma unroll
      for (int i = 0; i < 8; ++i) squares = fmaf(x[c][i] - mean, x[c][i] - mean, squares);
  const float scale = rsqrtf(warp_sum(squares) / WIDTH + kEpsilon);
#pragma unroll
  for (int c = 0; c < kChunks; ++c)
    if (element(c) < WIDTH) {
      float g[8], b[8], result[8];
      unpack(load_eight(gamma + element(c)), g);
      unpack(load_eight(beta + element(c)), b);
#pragma unroll
      for (int i = 0; i < 8; ++i) result[i] = fmaf((x[c][i] - mean) * scale, g[i], b[i]);
      store_eight(to + element(c), pack(result));
    }
}

// Rows are those of all prompts, `tokens` each; a warp takes one. A prompt begins at position 0.
extern "C" __global__ void __launch_bounds__(kThreads)
    gpt2_embed_norm(const long long* ids, const long long* positions, const half_bits* token_embedding,
                    const half_bits* position_embedding, const half_bits* gamma, const half_bits* beta, half_bits* hidden,
                    half_bits* normal, int tokens, int rows, int vocabulary) {
  const int row = row_of_warp();
  if (row >= rows) return;
  const int at = row % tokens;
  const long long id = ids[row];
  if (id < 0 || id >= vocabulary || positions[at] != at) __trap();
  float x[kChunks][8];
  load_row(token_embedding + id * WIDTH, x);
  add_row(position_embedding + static_cast<long long>(at) * WIDTH, x);
  store_row(hidden + static_cast<long long>(row) * WIDTH, x);
  store_normalised(normal + static_cast<long long>(row) * WIDTH, x, gamma, beta);
}

// hidden += product + bias, and its layer norm; a warp takes a row.
extern "C" __global__ void __launch_bounds__(kThreads)
    gpt2_bias_residual_norm(const half_bits* product, const half_bits* bias, const half_bits* gamma, const half_bits* beta,
                            half_bits* hidden, half_bits* normal, int rows) {
  const int row = row_of_warp();
  if (row >= rows) return;
  float x[kChunks][8];
  load_row(product + static_cast<long long>(row) * WIDTH, x);
  add_row(bias, x);
  add_row(hidden + static_cast<long long>(row) * WIDTH, x);
  store_row(hidden + static_cast<long long>(row) * WIDTH, x);
  store_normalised(normal + static_cast<long long>(row) * WIDTH, x, gamma, beta);
}

// x = GELU(x + bias), [rows, 4 * WIDTH]; a thread takes the same eight columns of kRows rows.
extern "C" __global__ void __launch_bounds__(kThreads) gpt2_bias_gelu(half_bits* x, const half_bits* bias, int rows) {
  const int index = blockIdx.x * kThreads + threadIdx.x, column = index % (WIDTH / 2) * 8;
  const int first = index / (WIDTH / 2) * kRows, count = min(rows - first, kRows);
  if (count <= 0) return;
  x += static_cast<long long>(first) * (4 * WIDTH) + column;
  uint4 packed[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    if (r < count) packed[r] = load_eight(x + r * 4 * WIDTH);
  float b[8];
  unpack(load_eight(bias + column), b);
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    if (r < count) {
      float values[8];
      unpack(packed[r], values);
#pragma unroll
      for (int i = 0; i < 8; ++i) values[i] = gelu(values[i] + b[i]);
      store_eight(x + r * 4 * WIDTH, pack(values));
    }
}
