// Runs one CUDA block at a time on a CPU. Each thread is a fiber, which runs until it must wait for others. Warps take turns in
// a random order. A turn lasts for a moment, or for as long as the warp can go on. So a kernel that depends on the order of warps
// gives a wrong result.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static  // one block runs at a time

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

struct float2 {
  float x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }

struct Index {
  int x, y;
};
static Index threadIdx, blockIdx, gridDim;

using std::max;
using std::min;
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
#define __expf std::exp
inline void __trap() {
  std::fputs("trap\n", stderr);
  std::abort();
}

namespace emulator {

constexpr int kStack = 1 << 16;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  bool done = false;
};

struct Meeting {  // a barrier for a number of threads, which can be used any number of times
  int arrived = 0;
  long round = 0;
};

using Kernel = void (*)(long, long, long, long, long, long, long, long, long, long, long, long);

static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static Meeting barriers[16], warps[32];
static unsigned long long deposits[1024][3];
static Kernel kernel;
static const long* arguments;

inline void yield() {
  const int own = threadIdx.x;
  swapcontext(&fibers[own].context, &scheduler);
  threadIdx.x = own;
}

inline void meet(Meeting& meeting, int threads) {
  const long round = meeting.round;
  if (++meeting.arrived == threads) {
    meeting.arrived = 0;
    ++meeting.round;
  } else {
    while (meeting.round == round) yield();
  }
}

inline void meet_warp() { meet(warps[threadIdx.x / 32], 32); }

// Every lane of a warp leaves three values, reads what it needs of the other lanes' values (`lanes[l]` is lane l's), and goes on
// together with all others.
template <class Read>
inline void exchange(unsigned long long first, unsigned long long second, unsigned long long third, Read read) {
  auto& own = deposits[threadIdx.x];
  own[0] = first, own[1] = second, own[2] = third;
  meet_warp();
  read(deposits + threadIdx.x / 32 * 32);
  meet_warp();
}

inline void begin() {
  const long* a = arguments;  // a kernel with fewer parameters ignores the rest
  kernel(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]);
  fibers[threadIdx.x].done = true;
  yield();
}

inline void run_block(int threads, std::mt19937& random) {
  fibers.clear();
  fibers.resize(threads);
  for (Fiber& fiber : fibers) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    makecontext(&fiber.context, begin, 0);
  }
  for (int left = threads; left > 0;) {
    const int warp = random() % (threads / 32), turns = random() % 4 ? 1 : 300;
    for (int turn = 0; turn < turns && left > 0; ++turn)
      for (int lane = 0; lane < 32; ++lane) {
        Fiber& fiber = fibers[warp * 32 + lane];
        if (fiber.done) continue;
        threadIdx.x = warp * 32 + lane;
        swapcontext(&scheduler, &fiber.context);
        left -= fiber.done;
      }
  }
}

}  // namespace emulator

inline void __syncthreads() { emulator::meet(emulator::barriers[0], static_cast<int>(emulator::fibers.size())); }
inline void __syncwarp() { emulator::meet_warp(); }

template <class Number>
inline Number __shfl_xor_sync(unsigned, Number value, int step) {
  unsigned long long bits = 0;
  std::memcpy(&bits, &value, sizeof(value));
  emulator::exchange(bits, 0, 0, [&](unsigned long long (*lanes)[3]) { bits = lanes[threadIdx.x % 32 ^ step][0]; });
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Pointers and ints are all passed as longs. A callee reads as many bytes of each as it needs.
extern "C" void emulate(void* kernel, int blocks_x, int blocks_y, int threads, const long* arguments) {
  std::mt19937 random(blocks_x + blocks_y);
  emulator::kernel = reinterpret_cast<emulator::Kernel>(kernel);
  emulator::arguments = arguments;
  gridDim = {blocks_x, blocks_y};
  for (blockIdx.y = 0; blockIdx.y < blocks_y; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < blocks_x; ++blockIdx.x) emulator::run_block(threads, random);
}
