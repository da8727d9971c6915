// Instructions of a decode step that C++ has no words for: with other bodies for these functions, all of decode.cu runs on a CPU.

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
#else
  __syncwarp();  // keeps the loads before it from being put off
#endif
}

// Weights that one warp reads once. Volatile, as the next, so that the load is issued where it is written: before the wait.
// Not by the non-coherent path, which would be the natural one: ptxas puts such loads off until their values are needed.
__device__ __forceinline__ uint4 load_weights(const void* from) {
  uint4 packed;
  asm volatile("ld.global.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(packed.x), "=r"(packed.y), "=r"(packed.z), "=r"(packed.w)
               : "l"(from));
  return packed;
}

// Parameters that several blocks of a multiprocessor read.
__device__ __forceinline__ uint4 load_parameters(const half_bits* from) {
  uint4 packed;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(packed.x), "=r"(packed.y), "=r"(packed.z), "=r"(packed.w)
               : "l"(from));
  return packed;
}

// Two bytes of four, each a number plus 128, as FP16 numbers: 0x6400 | byte is 1024 + byte, and the difference is exact.
__device__ __forceinline__ unsigned half_pair(unsigned bytes, unsigned selector) {
  unsigned pair;
  asm("{.reg .b32 t; prmt.b32 t, %1, 0x64646464, %2; sub.rn.f16x2 %0, t, %3;}"
      : "=r"(pair)
      : "r"(bytes), "r"(selector), "r"(0x64806480u));
  return pair;
}
