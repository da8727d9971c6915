// FP16 as it is stored, and FP32 as it is computed with: what all sources share.

typedef unsigned short half_bits;  // an FP16 number

#include "instructions.cuh"

#define FULL_WARP 0xffffffffu

__device__ __forceinline__ int lane() { return threadIdx.x % 32; }
__device__ __forceinline__ int warp() { return threadIdx.x / 32; }

__device__ __forceinline__ void unpack(const uint4& packed, float (&values)[8]) {
  unpack(packed.x, values[0], values[1]);
  unpack(packed.y, values[2], values[3]);
  unpack(packed.z, values[4], values[5]);
  unpack(packed.w, values[6], values[7]);
}

__device__ __forceinline__ uint4 pack(const float (&values)[8]) {
  return make_uint4(pack(values[0], values[1]), pack(values[2], values[3]), pack(values[4], values[5]),
                    pack(values[6], values[7]));
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(FULL_WARP, value, step);
  return value;
}

__device__ __forceinline__ uint4 load_eight(const half_bits* from) { return *reinterpret_cast<const uint4*>(from); }
__device__ __forceinline__ void store_eight(half_bits* to, const uint4& packed) { *reinterpret_cast<uint4*>(to) = packed; }

// 1 / sqrt(number), to the last bit of an FP32 number, by Newton's method.
__device__ constexpr double inverse_root(int number, double guess = 0.1, int steps = 30) {
  return steps == 0 ? guess : inverse_root(number, guess * (1.5 - 0.5 * number * guess * guess), steps - 1);
}

// In its tanh form.
__device__ __forceinline__ float gelu(float x) {
  const float inner = 0.7978845608028654f * fmaf(0.044715f * x * x, x, x);
  const float e = __expf(-2.0f * fabsf(inner));  // tanh by a form that cannot overflow
  return 0.5f * x * (1.0f + copysignf(__fdividef(1.0f - e, 1.0f + e), inner));
}
