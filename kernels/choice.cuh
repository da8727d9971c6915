// Which token is the most likely one? The one that torch.argmax names: NaN is more than any number, and of equals the first
// token counts.
//
// A logit and its token are one number here, and of two the larger is the choice. So tokens may be compared in any order and any
// grouping, and the choice is the same. Plain C++, which also runs on a CPU: tests/support/emulator.

typedef unsigned long long Choice;

constexpr Choice kNoChoice = 0;  // less than that of any token

// What the order of FP16 logits is as one of integers: equal where numbers are equal, zeros of either sign too, or both are NaN.
__device__ __forceinline__ unsigned order(half_bits logit) {
  const unsigned bits = logit, magnitude = bits & 0x7fffu;
  if (magnitude > 0x7c00u) return 0x10000u;  // NaN
  return bits > 0x8000u ? 0x8000u - magnitude : 0x8000u + magnitude;
}

// Of a logit as it is stored, so that the choice is that of whoever reads the logits.
__device__ __forceinline__ Choice choice(half_bits logit, unsigned token) {
  return static_cast<Choice>(order(logit)) << 32 | ~token;
}

__device__ __forceinline__ unsigned chosen_token(Choice choice) { return ~static_cast<unsigned>(choice); }

__device__ __forceinline__ Choice better(Choice one, Choice other) { return one > other ? one : other; }

// The best of `kLanes` neighbouring lanes, a power of two, for each of them.
template <int kLanes>
__device__ __forceinline__ Choice best_of_lanes(Choice own) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) own = better(own, __shfl_xor_sync(FULL_WARP, own, step));
  return own;
}
