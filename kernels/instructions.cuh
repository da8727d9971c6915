// Instructions that C++ has no words for. All else that the prefill's sources do is plain C++, so that with other bodies
// for these functions it runs on a CPU: tests/support/emulator has them.

__device__ __forceinline__ void unpack(unsigned pair, float& low, float& high) {
  asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=f"(low), "=f"(high) : "r"(pair));
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
  unsigned pair;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.f16x2.f32 %0, %2, %1;" : "=r"(pair) : "f"(low), "f"(high));
#else
  asm("{.reg .b16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h};}" : "=r"(pair) : "f"(low), "f"(high));
#endif
  return pair;
}

__device__ __forceinline__ float exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// Four 8 by 8 matrices, whose rows' addresses the lanes give, eight lanes a matrix. Lane l gets elements 2 (l % 4) and the
// next of row l / 4; transposed, of column l / 4. Volatile, so that none moves across a barrier.
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

// sums += a * b of 16 by 8 and 8 by 8: lane l holds rows l / 4 and l / 4 + 8 of a and of the sums, in columns 2 (l % 4) and
// the next; of b it holds column l / 4, in rows 2 (l % 4) and the next.
__device__ __forceinline__ void multiply_8(float (&sums)[4], unsigned a0, unsigned a1, unsigned b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(b));
}

// The same of 16 by 16 and 16 by 8, each in two halves of the inner dimension: a0, a1 and b0 of the first, then of the second.
__device__ __forceinline__ void multiply_16(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  multiply_8(sums, a[0], a[1], b[0]);
  multiply_8(sums, a[2], a[3], b[1]);
#endif
}

// A barrier of some of a block's threads, whole warps; 0 is __syncthreads's own.
__device__ __forceinline__ void barrier(int number, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
