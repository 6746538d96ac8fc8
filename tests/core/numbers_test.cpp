// What kernels are made of, against references: exp, log and normal_values of a register, what moves its lanes, views
// of tile columns, random words and what is drawn from them. Prints what fails and returns 1.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "expect.hpp"
#include "pushforward/base/noise.hpp"
#include "pushforward/network/activation.hpp"
#include "pushforward/tile/bfloat16.hpp"
#include "pushforward/tile/columns.hpp"

namespace {

using namespace pushforward;

template <class Scalar>
constexpr const char* kName = std::is_same_v<Scalar, float> ? "float" : "double";
template <class Scalar>
constexpr Scalar kEps = std::numeric_limits<Scalar>::epsilon();

template <class Scalar, class F>
Scalar lane(F&& f, Scalar x) {
  alignas(64) Scalar values[Vec<Scalar>::kWidth];
  f(Vec<Scalar>(x)).store(values);
  return values[0];
}

// Calls f(x) over numbers from low to high, equally far apart, and then each one's neighbours.
template <class Scalar, class F>
void for_range(Scalar low, Scalar high, F&& f) {
  constexpr int kCount = 50'000;
  for (int i = 0; i <= kCount; ++i) {
    const Scalar share = static_cast<Scalar>(i) / kCount;
    f(std::clamp((1 - share) * low + share * high, low, high));
  }
}

template <class Scalar>
void exponential() {
  const std::string where = std::string("exp, ") + kName<Scalar>;
  const auto of = [](Scalar x) { return lane<Scalar>([](Vec<Scalar> v) { return exp(v); }, x); };
  constexpr bool kFloat = std::is_same_v<Scalar, float>;
  constexpr Scalar kLow = kFloat ? Scalar(-87.3) : Scalar(-708.3), kHigh = kFloat ? Scalar(88.3) : Scalar(709.0);
  long double worst = 0;
  const auto compare = [&](Scalar x) {
    const long double want = std::exp(static_cast<long double>(x));
    worst = std::max(worst, std::abs(of(x) - want) / want);
  };
  for_range(kLow, kHigh, compare);
  for_range(Scalar(-1), Scalar(1), compare);
  for (Scalar x = 1; x > std::numeric_limits<Scalar>::min(); x /= 3) compare(x), compare(-x);
  // Where the rounding of x / log 2 turns.
  for (int n = static_cast<int>(kLow); n < static_cast<int>(kHigh * 1.4); ++n) {
    auto x = static_cast<Scalar>((n + 0.5L) * 0.693147180559945309417232121458L);
    if (x > kLow && x < kHigh) compare(std::nextafter(x, kLow)), compare(x), compare(std::nextafter(x, kHigh));
  }
  std::printf("%s: %.3Lf eps\n", where.c_str(), worst / kEps<Scalar>);
  expect(worst <= kEps<Scalar>, where, "is off by more than 1 eps");

  constexpr Scalar kInfinity = std::numeric_limits<Scalar>::infinity(), kMost = std::numeric_limits<Scalar>::max();
  for (const Scalar x : {std::nextafter(kHigh, kMost), 2 * kHigh, kMost, kInfinity}) {
    expect(of(x) == of(kHigh), where, "does not stay at its largest number");
    expect(of(-x) == of(kLow), where, "does not stay at its smallest number");
  }
  expect(std::isnormal(of(kHigh)) && std::isnormal(of(kLow)), where, "ends in a number that is not normal");
  expect(of(0) == 1, where, "of 0 is not 1");
  expect(std::isnan(of(std::numeric_limits<Scalar>::quiet_NaN())), where, "of NaN is a number");
}

// In units of eps, the error that a mass or a density may have: without fused products, the rounding of the square
// remains, which the exponential magnifies.
template <class Scalar>
long double normal_tolerance(Scalar x) {
  const Scalar up = 1 + kEps<Scalar>;
  const bool fused = lane<Scalar>([&](Vec<Scalar> v) { return fma(v, v, -(v * v)); }, up) != 0;
  return fused ? 4 : 4 + static_cast<long double>(x) * x / 4;
}

template <class Scalar>
void normal() {
  const std::string where = std::string("normal_values, ") + kName<Scalar>;
  const auto mass_of = [](Scalar x) { return lane<Scalar>([](Vec<Scalar> v) { return normal_values(v).mass; }, x); };
  const auto bell_of = [](Scalar x) { return lane<Scalar>([](Vec<Scalar> v) { return normal_values(v).bell; }, x); };
  constexpr bool kFloat = std::is_same_v<Scalar, float>;
  // From the least mass that is a normal number to the first that is 1.
  constexpr Scalar kLow = kFloat ? Scalar(-12.8) : Scalar(-37.4), kHigh = kFloat ? Scalar(6) : Scalar(9);
  long double worst_mass = 0, worst_bell = 0;
  const auto compare = [&](Scalar x) {
    const long double u = x, tolerance = normal_tolerance(x) * kEps<Scalar>;
    const long double mass = std::erfc(-u * 0.707106781186547524400844362104849L) / 2, bell = std::exp(-u * u / 2);
    worst_mass = std::max(worst_mass, std::abs(mass_of(x) - mass) / (mass * tolerance));
    worst_bell = std::max(worst_bell, std::abs(bell_of(x) - bell) / (bell * tolerance));
  };
  for_range(kLow, kHigh, compare);
  for_range(Scalar(-1), Scalar(1), compare);
  for (Scalar x = 1; x > std::numeric_limits<Scalar>::min(); x /= 3) compare(x), compare(-x);
  expect(worst_mass <= 1, where, "a mass is off by more than 4 eps");
  expect(worst_bell <= 1, where, "a density is off by more than 4 eps");
  expect(mass_of(std::numeric_limits<Scalar>::infinity()) == 1, where, "the mass below infinity is not 1");
  expect(std::isnan(mass_of(std::numeric_limits<Scalar>::quiet_NaN())), where, "of NaN is a number");
}

// The slopes of silu and gelu at any argument: 1 far above 0, 0 far below, and never NaN.
template <class Scalar>
void far_slopes() {
  for (const Activation activation : {Activation::silu, Activation::gelu}) {
    const std::string where = std::string(activation == Activation::silu ? "silu, " : "gelu, ") + kName<Scalar>;
    alignas(64) Scalar inputs[kTileRows], values[kTileRows], slopes[kTileRows];
    for (Index i = 0; i < kTileRows / 2; ++i) {
      inputs[2 * i] = std::pow(Scalar(10), static_cast<Scalar>(i + 2));
      inputs[2 * i + 1] = -inputs[2 * i];
    }
    activate<Scalar>(activation, kTileRows, 1, Columns<const Scalar>(inputs), Columns<Scalar>(values),
                     Columns<Scalar>(slopes));
    for (Index i = 0; i < kTileRows; i += 2) {
      expect(std::abs(values[i] / inputs[i] - 1) <= kEps<Scalar> && std::abs(slopes[i] - 1) <= kEps<Scalar>, where,
             "not the identity far above 0");
      expect(std::abs(values[i + 1]) < Scalar(1e-3) && std::abs(slopes[i + 1]) < Scalar(1e-3), where,
             "not 0 far below 0");
    }
  }
}

template <class Scalar>
void logarithm() {
  const std::string where = std::string("log, ") + kName<Scalar>;
  const auto of = [](Scalar x) { return lane<Scalar>([](Vec<Scalar> v) { return log(v); }, x); };
  constexpr Scalar kLeast = std::numeric_limits<Scalar>::min(), kMost = std::numeric_limits<Scalar>::max();
  long double worst = 0;
  const auto compare = [&](Scalar x) {
    const long double want = std::log(static_cast<long double>(x));
    if (x != 1) worst = std::max(worst, std::abs(of(x) - want) / std::abs(want));
  };
  for_range(Scalar(0.1), Scalar(10), compare);
  for_range(Scalar(0.99), Scalar(1.01), compare);
  for (Scalar step = 1; step > kEps<Scalar>; step /= 2) compare(1 + step), compare(1 - step / 2);
  // Every exponent, with both ends of the significand and where it is halved.
  for (int n = std::numeric_limits<Scalar>::min_exponent; n < std::numeric_limits<Scalar>::max_exponent; ++n)
    for (const double m : {0.5, 0.6, 0.70710678, 0.70710679, 0.8, 1 - 1e-7}) compare(std::ldexp(Scalar(m), n));
  compare(kLeast);
  compare(kMost);
  std::printf("%s: %.3Lf eps\n", where.c_str(), worst / kEps<Scalar>);
  expect(worst <= kEps<Scalar>, where, "is off by more than 1 eps");
  expect(of(1) == 0, where, "of 1 is not 0");
}

template <class Scalar>
void trigonometry() {
  const std::string where = std::string("cos_sin, ") + kName<Scalar>;
  long double worst = 0;
  for_range(static_cast<Scalar>(-kPi / 4), static_cast<Scalar>(kPi / 4), [&](Scalar angle) {
    Vec<Scalar> cosine, sine;
    detail::cos_sin(Vec<Scalar>(angle), cosine, sine);
    const Scalar c = lane<Scalar>([&](Vec<Scalar>) { return cosine; }, 0);
    const Scalar s = lane<Scalar>([&](Vec<Scalar>) { return sine; }, 0);
    worst = std::max({worst, std::abs(c - std::cos(static_cast<long double>(angle))),
                      std::abs(s - std::sin(static_cast<long double>(angle)))});
  });
  std::printf("%s: %.3Lf eps\n", where.c_str(), worst / kEps<Scalar>);
  expect(worst <= kEps<Scalar>, where, "is off by more than 1 eps");
}

// A lane's result does not depend on the others.
template <class Scalar>
void lanes_alone() {
  using V = Vec<Scalar>;
  alignas(64) Scalar mixed[V::kWidth], logs[V::kWidth], exps[V::kWidth];
  for (int i = 0; i < V::kWidth; ++i) mixed[i] = Scalar(0.3) * static_cast<Scalar>(i + 1);
  log(V::load(mixed)).store(logs);
  exp(V::load(mixed)).store(exps);
  bool same = true;
  for (int i = 0; i < V::kWidth; ++i)
    same &= logs[i] == lane<Scalar>([](V v) { return log(v); }, mixed[i]) &&
            exps[i] == lane<Scalar>([](V v) { return exp(v); }, mixed[i]);
  expect(same, std::string("exp and log, ") + kName<Scalar>, "a lane depends on its place");
}

template <class Scalar>
void compare_and_select() {
  using V = Vec<Scalar>;
  // A mask is not a number, at any instruction set.
  static_assert(!std::is_convertible_v<typename V::Mask, V> && !std::is_convertible_v<V, typename V::Mask>);
  static_assert(!std::is_constructible_v<V, typename V::Mask> && !std::is_convertible_v<int, typename V::Mask>);
  const std::string where = std::string("select, ") + kName<Scalar>;
  constexpr Scalar kNan = std::numeric_limits<Scalar>::quiet_NaN();
  const std::array<Scalar, 6> values{-1, 0, Scalar(-0.0), 2, std::numeric_limits<Scalar>::infinity(), kNan};
  for (const Scalar a : values)
    for (const Scalar b : values) {
      const auto chosen = [&](auto mask) {
        return lane<Scalar>([&](V) { return V::select(mask, V(3), V(4)); }, 0) == 3;
      };
      const V x = a, y = b;
      expect(chosen(x < y) == (a < b) && chosen(x <= y) == (a <= b) && chosen(x == y) == (a == b) &&
                 chosen(x > y) == (a > b) && chosen(x >= y) == (a >= b),
             where, "a comparison chooses the other");
    }
  alignas(64) Scalar ramp[V::kWidth], taken[V::kWidth];
  for (int i = 0; i < V::kWidth; ++i) ramp[i] = static_cast<Scalar>(i);
  V::select(V::load(ramp) < V(1), V(-1), V::load(ramp)).store(taken);
  bool right = taken[0] == -1;
  for (int i = 1; i < V::kWidth; ++i) right &= taken[i] == ramp[i];
  expect(right, where, "lanes are not chosen one by one");
  const auto least = [&](Scalar a, Scalar b) { return lane<Scalar>([&](V) { return min(V(a), V(b)); }, 0); };
  const auto most = [&](Scalar a, Scalar b) { return lane<Scalar>([&](V) { return max(V(a), V(b)); }, 0); };
  expect(std::isnan(least(kNan, 1)) && std::isnan(most(kNan, 1)) && least(1, kNan) == 1 && most(1, kNan) == 1, where,
         "min and max do not give their first argument of a NaN and a number");
}

template <class Scalar>
void transpose() {
  using V = Vec<Scalar>;
  constexpr int kWidth = V::kWidth;
  alignas(64) Scalar numbers[kWidth * kWidth];
  for (int i = 0; i < kWidth * kWidth; ++i) numbers[i] = static_cast<Scalar>(i);
  V square[kWidth];
  for (int i = 0; i < kWidth; ++i) square[i] = V::load(numbers + i * kWidth);
  V::transpose(square);
  for (int i = 0; i < kWidth; ++i) square[i].store(numbers + i * kWidth);
  bool right = true;
  for (int i = 0; i < kWidth; ++i)
    for (int j = 0; j < kWidth; ++j) right &= numbers[i * kWidth + j] == static_cast<Scalar>(j * kWidth + i);
  expect(right, std::string("transpose, ") + kName<Scalar>, "a number stands elsewhere");
}

template <class Scalar>
void add_to() {
  using V = Vec<Scalar>;
  for (Index count = 0; count <= V::kWidth + 2; ++count) {
    // One past an aligned address, in memory that ends with the last number that may be written.
    std::vector<Scalar> to(static_cast<std::size_t>(1 + std::min<Index>(count, V::kWidth)), Scalar(5));
    V(2).add_to(to.data() + 1, count);
    const bool added = std::all_of(to.begin() + 1, to.end(), [](Scalar value) { return value == 7; });
    expect(added && to[0] == 5, std::string("add_to, ") + kName<Scalar>, "adds something else");
  }
}

// Regions follow each other, and a view's columns are kTileRows apart.
void columns() {
  static_assert(std::is_trivially_copyable_v<Columns<float>> && sizeof(Columns<float>) == sizeof(float*));
  static_assert(std::is_convertible_v<Columns<float>, Columns<const float>>);
  static_assert(!std::is_convertible_v<Columns<const float>, Columns<float>>);
  static_assert(!std::is_convertible_v<float*, Columns<float>>);
  ColumnLayout layout;
  const Region first = layout.take(2), none = layout.take(0), last = layout.take(3);
  expect(first.first == 0 && none.first == 2 && none.end() == 2 && last.first == 2 && last.end() == 5, "regions",
         "overlap or leave a gap");
  expect(layout.count() == 5, "regions", "are not counted");
  std::vector<float> values(static_cast<std::size_t>(5 * kTileRows));
  const Columns<float> view(values.data());
  expect(view[last][1] == view[3] && view.from(2).from(-1)[0] == view[1], "columns",
         "a view is not a part of its whole");
  expect(view[4] == values.data() + 4 * kTileRows && view.from_row(7)[1] == view[1] + 7, "columns", "are elsewhere");
  expect(static_cast<bool>(view) && !Columns<float>(), "columns", "a view of nothing is not null");
}

using Quad = std::array<std::uint32_t, 4>;

// Philox4x32-10 as it is published (Salmon et al. 2011, figure 2), a step at a time.
Quad philox(Quad c, std::uint32_t k0, std::uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    if (round > 0) {
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    const std::uint64_t p0 = std::uint64_t(c[0]) * 0xD2511F53u, p1 = std::uint64_t(c[2]) * 0xCD9E8D57u;
    const auto high = [](std::uint64_t p) { return static_cast<std::uint32_t>(p >> 32); };
    const auto low = [](std::uint64_t p) { return static_cast<std::uint32_t>(p & 0xFFFFFFFFu); };
    c = {high(p1) ^ c[1] ^ k0, low(p1), high(p0) ^ c[3] ^ k1, low(p0)};
  }
  return c;
}

void random_words() {
  // The known answers that come with Random123. A last word of the counter other than 0, as in two of them, is for the
  // reference alone.
  const std::uint32_t ones = 0xFFFFFFFFu;
  expect(philox({0, 0, 0, 0}, 0, 0) == Quad{0x6627E8D5u, 0xE169C58Du, 0xBC57AC4Cu, 0x9B00DBD8u}, "Philox",
         "the reference gives another first answer");
  expect(philox({ones, ones, ones, ones}, ones, ones) == Quad{0x408F276Du, 0x41C83B0Eu, 0xA20BC7C6u, 0x6D5451FDu},
         "Philox", "the reference gives another second answer");
  expect(philox({0x243F6A88u, 0x85A308D3u, 0x13198A2Eu, 0x03707344u}, 0xA4093822u, 0x299F31D0u) ==
             Quad{0xD16CFE09u, 0x94FDCCEBu, 0x5001E420u, 0x24126EA1u},
         "Philox", "the reference gives another third answer");
  for (const std::uint64_t key : {std::uint64_t(0), ~std::uint64_t(0), std::uint64_t(0x299F31D0A4093822u)})
    // Rows on both sides of 2^32.
    for (const Index first : {Index(0), (Index(1) << 32) - 20, Index(0x05A308D3243F6A88)})
      for (const std::uint32_t stream : {0u, 1u, 1u << 31, 0x13198A2Eu, ones}) {
        const detail::Words words({key, first}, stream, kTileRows);
        bool same = true;
        for (Index row = 0; row < kTileRows; ++row) {
          const auto number = static_cast<std::uint64_t>(first + row);
          const Quad want =
              philox({static_cast<std::uint32_t>(number & ones), static_cast<std::uint32_t>(number >> 32), stream, 0},
                     static_cast<std::uint32_t>(key & ones), static_cast<std::uint32_t>(key >> 32));
          for (std::size_t i = 0; i < 4; ++i) same &= words.word[i][row] == want[i];
        }
        expect(same, "Philox", "other words than the reference's");
      }
}

// Words at both ends, which no test draws by chance.
template <class Scalar>
void uniform_ends() {
  const std::string where = std::string("uniform, ") + kName<Scalar>;
  detail::Words words({0, 0}, 0, kLanes);
  for (auto& word : words.word) std::fill_n(word, 1, 0u), std::fill_n(word + 1, kLanes - 1, 0xFFFFFFFFu);
  alignas(64) Scalar u[kLanes];
  words.uniform(kLanes, 0, u);
  expect(u[0] > 0 && std::isnormal(u[0]), where, "is 0");
  expect(u[1] <= 1, where, "is above 1");
}

// Both neighbours of a float32 number among those of bfloat16, and the nearer of the two.
float nearest_bfloat16(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  float neighbours[2];
  for (const std::uint32_t i : {0u, 1u}) {
    const std::uint32_t near = ((bits >> 16) + i) << 16;
    std::memcpy(&neighbours[i], &near, sizeof near);
  }
  const double below = std::abs(static_cast<double>(x) - neighbours[0]),
               above = std::abs(static_cast<double>(x) - neighbours[1]);
  if (below == above) return (bits >> 16) % 2 == 0 ? neighbours[0] : neighbours[1];
  return below < above ? neighbours[0] : neighbours[1];
}

void rounding() {
  const std::string where = "bfloat16";
  bool all = true;
  const auto compare = [&](float x) { all &= bfloat16::rounded(x) == nearest_bfloat16(x); };
  for (float x = 0x1p-63f; x < 0x1p52f; x *= 1.0009f) compare(x), compare(-x);
  for (const float tie : {1 + 0x1p-8f, 1 + 3 * 0x1p-8f, 3 + 0x1p-7f, 0x1.fep9f + 1})
    compare(tie), compare(std::nextafter(tie, 0.0f)), compare(std::nextafter(tie, 1e9f)), compare(-tie);
  expect(all, where, "a number is not the nearest");
  for (const float x : {0.0f, -0.0f, 1e-40f, -1e-40f, 0x1.fffffep-64f})
    expect(bfloat16::rounded(x) == 0, where, "a small number is not 0");
  for (const float x : {0x1p52f, 0x1.00fp52f, 0x1p100f, std::numeric_limits<float>::infinity()})
    expect(bfloat16::rounded(x) == 0x1p52f && bfloat16::rounded(-x) == -0x1p52f, where,
           "a large number is not bounded");
  std::uint32_t bits = 0x7f800001u;  // the NaN whose upper half is that of infinity
  for (int sign = 0; sign < 2; ++sign, bits = 0xffffffffu) {
    float nan;
    std::memcpy(&nan, &bits, sizeof bits);
    expect(std::isnan(bfloat16::rounded(nan)), where, "NaN is a number");
  }
}

// A tile's row by TDPBF16PS, from the pseudocode of Intel's manual: dst[n] += sum over k of a[k] b[k][n], where pairs
// of numbers stand side by side. pairs: of the depth, at most 16.
void tile_instruction(Index pairs, const float* a, const float (*b)[2], float& dst) {
  float even = 0, odd = 0;
  for (Index k = 0; k < pairs; ++k) {
    even = std::fma(a[2 * k], b[k][0], even);
    odd = std::fma(a[2 * k + 1], b[k][1], odd);
  }
  dst += even + odd;
}

// All columns of a left factor of kTileRows rows, of all widths and depths, bit by bit.
void tile_products() {
  constexpr Index kMost = 70;
  std::vector<float> left(kTileRows * kMost + 16), right(kMost * kMost);
  auto* x = left.data() + (16 - reinterpret_cast<std::uintptr_t>(left.data()) / sizeof(float) % 16) % 16;
  std::uint32_t word = 1;
  const auto draw = [&] {
    word = word * 1664525u + 1013904223u;
    const auto uniform = static_cast<float>(word >> 8) * 0x1p-23f - 1;
    return bfloat16::rounded(std::ldexp(uniform, static_cast<int>(word % 41) - 20));
  };
  for (Index i = 0; i < kTileRows * kMost; ++i) x[i] = draw();
  for (float& value : right) value = draw();
  x[3] = std::numeric_limits<float>::quiet_NaN();  // stays in its row
  for (const Index height : {16, 48, 64})
    for (const Index depth : {0, 1, 2, 31, 32, 33, 64, 70})
      for (const Index columns : {1, 2, 3, 7, 8, 13, 70})
        for (const bool along : {false, true}) {
          const Index column_stride = along ? kMost : 1, depth_stride = along ? 1 : kMost;
          std::vector<float> got(static_cast<std::size_t>(columns * kTileRows));
          panel::product<float>(
              height, bfloat16::Depth{depth}, columns, static_cast<const float*>(x), kTileRows,
              {right.data(), column_stride, depth_stride},
              [](Index column) { return 0.1f * static_cast<float>(column); },
              [&](Index row, Index column, Vec<float> sum) {
                alignas(64) float values[Vec<float>::kWidth];
                sum.store(values);
                std::copy_n(values, Vec<float>::kWidth, got.data() + column * kTileRows + row);
              });
          bool all = true;
          for (Index column = 0; column < columns; ++column)
            for (Index row = 0; row < height; ++row) {
              float want = 0.1f * static_cast<float>(column);
              for (Index first = 0; first < depth; first += 32) {
                const Index pairs = (std::min<Index>(depth - first, 32) + 1) / 2;
                float a[32] = {}, b[16][2] = {};
                for (Index k = first; k < std::min(first + 32, depth); ++k) {
                  a[k - first] = right[static_cast<std::size_t>(column * column_stride + k * depth_stride)];
                  b[(k - first) / 2][(k - first) % 2] = x[k * kTileRows + row];
                }
                tile_instruction(pairs, a, b, want);
              }
              const float found = got[static_cast<std::size_t>(column * kTileRows + row)];
              all &= std::isnan(want) ? std::isnan(found) && row == 3 : std::memcmp(&found, &want, sizeof want) == 0;
            }
          expect(all, "bfloat16", "a product differs from that of the tile instruction");
        }
}

template <class Scalar>
void run() {
  exponential<Scalar>();
  logarithm<Scalar>();
  normal<Scalar>();
  far_slopes<Scalar>();
  trigonometry<Scalar>();
  lanes_alone<Scalar>();
  compare_and_select<Scalar>();
  transpose<Scalar>();
  add_to<Scalar>();
  uniform_ends<Scalar>();
}

}  // namespace

int main() {
  run<float>();
  run<double>();
  columns();
  rounding();
  tile_products();
  random_words();
  return report();
}
