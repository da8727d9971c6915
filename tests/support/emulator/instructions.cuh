// The functions of kernels/instructions.cuh in plain C++, as NVIDIA's PTX manual describes the instructions.

inline float half_to_float(unsigned bits) {
  const unsigned short half = static_cast<unsigned short>(bits);
  _Float16 value;
  std::memcpy(&value, &half, 2);
  return static_cast<float>(value);
}

inline unsigned float_to_half(float value) {
  const _Float16 rounded = static_cast<_Float16>(value);
  unsigned short half;
  std::memcpy(&half, &rounded, 2);
  return half;
}

inline half_bits to_half(float value) { return static_cast<half_bits>(float_to_half(value)); }
inline float to_float(half_bits bits) { return half_to_float(bits); }

inline void unpack(unsigned pair, float& low, float& high) {
  low = half_to_float(pair);
  high = half_to_float(pair >> 16);
}

inline unsigned pack(float low, float high) { return float_to_half(low) | float_to_half(high) << 16; }

#define exp2(x) std::exp2f(x)

// Lanes 8 m to 8 m + 7 give the addresses of the rows of matrix m.
inline void load_matrices(const uint4* row, bool transposed, unsigned (&found)[4]) {
  emulator::exchange(reinterpret_cast<unsigned long long>(row), 0, 0, [&](unsigned long long (*lanes)[3]) {
    const int group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4 * 2;
    for (int m = 0; m < 4; ++m) {
      found[m] = 0;
      for (int e = 0; e < 2; ++e) {
        const int at = transposed ? pair + e : group, column = transposed ? group : pair + e;
        found[m] |= reinterpret_cast<const unsigned short*>(lanes[m * 8 + at][0])[column] << 16 * e;
      }
    }
  });
}

inline void load_matrices(const uint4* row, unsigned (&first)[2], unsigned (&second)[2]) {
  unsigned found[4];
  load_matrices(row, false, found);
  first[0] = found[0], first[1] = found[1], second[0] = found[2], second[1] = found[3];
}

inline void load_transposed(const uint4* row, unsigned (&first)[2], unsigned (&second)[2]) {
  unsigned found[4];
  load_matrices(row, true, found);
  first[0] = found[0], first[1] = found[1], second[0] = found[2], second[1] = found[3];
}

inline void multiply_8(float (&sums)[4], unsigned a0, unsigned a1, unsigned b) {
  emulator::exchange(a0, a1, b, [&](unsigned long long (*lanes)[3]) {
    const int group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4 * 2;
    for (int e = 0; e < 4; ++e)
      for (int k = 0; k < 8; ++k) {
        const unsigned long long left = lanes[group * 4 + k / 2][e / 2], right = lanes[(pair + e % 2) * 4 + k / 2][2];
        sums[e] += half_to_float(left >> 16 * (k % 2)) * half_to_float(right >> 16 * (k % 2));
      }
  });
}

inline void multiply_16(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  multiply_8(sums, a[0], a[1], b[0]);
  multiply_8(sums, a[2], a[3], b[1]);
}

inline void barrier(int number, int threads) { emulator::meet(emulator::barriers[number], threads); }
