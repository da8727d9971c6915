// The functions of kernels/decode.cuh in plain C++, as NVIDIA's PTX manual describes the instructions.

inline void release_next() {}
inline void await_previous() { __syncwarp(); }
inline uint4 load_weights(const void* from) { return *static_cast<const uint4*>(from); }
inline uint4 load_parameters(const half_bits* from) { return *reinterpret_cast<const uint4*>(from); }

// The byte of each half that `selector` names, minus 128.
inline unsigned half_pair(unsigned bytes, unsigned selector) {
  const auto byte = [&](int nibble) { return static_cast<float>(bytes >> 8 * (selector >> 4 * nibble & 7) & 0xff) - 128.0f; };
  return pack(byte(0), byte(2));
}
