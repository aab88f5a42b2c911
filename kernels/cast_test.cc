// The casts against a reference that knows no bit tricks: values as doubles, and the nearest of all that there are.
#include "kernels/cast.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace weightstream {
namespace {

// A binary format of 16 bits, by the definition of IEEE 754.
struct Format {
  int mantissa_bits;
  int bias;

  uint32_t infinity() const { return 0x7FFFu >> mantissa_bits << mantissa_bits; }
  bool IsNan(uint16_t bits) const { return (bits & 0x7FFFu) > infinity(); }
  // Of a bit pattern that is no NaN, without its sign. Infinity is the value that its exponent would have otherwise:
  // what rounds to that is what rounds to infinity.
  double Magnitude(uint32_t bits) const {
    const int exponent = static_cast<int>(bits >> mantissa_bits);
    const double mantissa = bits & ((1u << mantissa_bits) - 1);
    const double steps = exponent == 0 ? mantissa : mantissa + std::ldexp(1.0, mantissa_bits);
    return std::ldexp(steps, std::max(exponent, 1) - bias - mantissa_bits);
  }
};

constexpr Format kF16{10, 15};
constexpr Format kBf16{7, 127};

uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

float FloatOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

class Reference {
 public:
  explicit Reference(Format format) : format_(format) {
    for (uint32_t bits = 0; bits <= format.infinity(); ++bits) magnitudes_.push_back(format.Magnitude(bits));
  }

  // The nearest value's bits; of two equally near the even ones. Not for NaN.
  uint16_t Round(float value) const {
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    const double magnitude = std::fabs(static_cast<double>(value));
    const auto above = std::lower_bound(magnitudes_.begin(), magnitudes_.end(), magnitude);
    if (above == magnitudes_.end()) return sign | format_.infinity();
    auto bits = static_cast<uint32_t>(above - magnitudes_.begin());
    if (bits > 0) {
      const double up = magnitudes_[bits] - magnitude;
      const double down = magnitude - magnitudes_[bits - 1];
      if (down < up || (down == up && bits % 2 == 1)) --bits;
    }
    return static_cast<uint16_t>(sign | bits);
  }

 private:
  const Format format_;
  std::vector<double> magnitudes_;
};

template <typename To, typename From>
To CastOne(FloatCast cast, From from) {
  To to;
  CastElements(cast, reinterpret_cast<const char*>(&from), reinterpret_cast<char*>(&to), 1);
  return to;
}

// Each exponent and sign with mantissas at and around every place where rounding changes its mind, and many at random.
std::vector<uint32_t> InterestingFloats() {
  std::vector<uint32_t> mantissas;
  for (int bit = 0; bit < 23; ++bit) {
    for (int around = -2; around <= 2; ++around) {
      mantissas.push_back(((1u << bit) + around) & 0x7FFFFF);
      mantissas.push_back(((0x7FFFFFu >> bit << bit) + around) & 0x7FFFFF);
      mantissas.push_back(((3u << bit) + around) & 0x7FFFFF);
    }
  }
  std::vector<uint32_t> floats;
  for (uint32_t exponent = 0; exponent < 256; ++exponent) {
    for (const uint32_t mantissa : mantissas) {
      for (const uint32_t sign : {0u, 0x80000000u}) floats.push_back(sign | exponent << 23 | mantissa);
    }
  }
  std::mt19937 random(1);
  for (int i = 0; i < 1'000'000; ++i) floats.push_back(static_cast<uint32_t>(random()));
  // Most random exponents are out of F16's range: as many within it, and around both of its ends.
  for (int i = 0; i < 1'000'000; ++i) {
    const auto bits = static_cast<uint32_t>(random());
    floats.push_back((bits & 0x807FFFFF) | (100 + bits % 45) << 23);
  }
  return floats;
}

void CheckNarrowing(FloatCast cast, Format format) {
  const Reference reference(format);
  for (const uint32_t bits : InterestingFloats()) {
    const float value = FloatOf(bits);
    const auto narrowed = CastOne<uint16_t>(cast, bits);
    if (std::isnan(value)) {
      ASSERT_TRUE(format.IsNan(narrowed)) << std::hex << bits << " became " << narrowed;
      ASSERT_EQ(narrowed >> 15, bits >> 31) << std::hex << bits;
      const uint32_t payload = (bits & 0x7FFFFF) >> (23 - format.mantissa_bits);
      const uint32_t quiet = 1u << (format.mantissa_bits - 1);
      ASSERT_EQ(narrowed & ((1u << format.mantissa_bits) - 1), payload == 0 ? quiet : payload) << std::hex << bits;
    } else {
      ASSERT_EQ(narrowed, reference.Round(value)) << std::hex << bits << " is " << value;
    }
  }
}

TEST(CastTest, F32ToF16IsTheNearestValueForEveryExponent) { CheckNarrowing(FloatCast::kF32ToF16, kF16); }

TEST(CastTest, F32ToBf16IsTheNearestValueForEveryExponent) { CheckNarrowing(FloatCast::kF32ToBf16, kBf16); }

void CheckWidening(FloatCast widen, FloatCast narrow, Format format) {
  for (uint32_t bits = 0; bits < 65'536; ++bits) {
    const auto narrow_bits = static_cast<uint16_t>(bits);
    const auto widened = CastOne<uint32_t>(widen, narrow_bits);
    const float value = FloatOf(widened);
    ASSERT_EQ(std::signbit(value), bits >= 0x8000) << std::hex << bits;
    const uint32_t magnitude = bits & 0x7FFF;
    if (format.IsNan(narrow_bits)) {
      ASSERT_TRUE(std::isnan(value)) << std::hex << bits;
    } else if (magnitude == format.infinity()) {
      ASSERT_TRUE(std::isinf(value)) << std::hex << bits;
    } else {
      ASSERT_EQ(std::fabs(static_cast<double>(value)), format.Magnitude(magnitude)) << std::hex << bits;
    }
    ASSERT_EQ(CastOne<uint16_t>(narrow, widened), narrow_bits) << "there and back";
  }
}

TEST(CastTest, EveryF16WidensExactlyAndComesBack) { CheckWidening(FloatCast::kF16ToF32, FloatCast::kF32ToF16, kF16); }

TEST(CastTest, EveryBf16WidensExactlyAndComesBack) {
  CheckWidening(FloatCast::kBf16ToF32, FloatCast::kF32ToBf16, kBf16);
}

void CheckAcross(FloatCast cast, Format from, Format to) {
  const Reference reference(to);
  for (uint32_t bits = 0; bits < 65'536; ++bits) {
    const auto in = static_cast<uint16_t>(bits);
    const auto out = CastOne<uint16_t>(cast, in);
    if (from.IsNan(in)) {
      ASSERT_TRUE(to.IsNan(out)) << std::hex << bits;
      ASSERT_EQ(out >> 15, in >> 15) << std::hex << bits;
    } else {
      // Every value of both formats is a value of F32.
      const bool infinite = (bits & 0x7FFF) == from.infinity();
      const double magnitude = infinite ? std::numeric_limits<double>::infinity() : from.Magnitude(bits & 0x7FFF);
      const auto value = static_cast<float>(bits >= 0x8000 ? -magnitude : magnitude);
      ASSERT_EQ(out, reference.Round(value)) << std::hex << bits;
    }
  }
}

TEST(CastTest, EveryBf16BecomesTheNearestF16) { CheckAcross(FloatCast::kBf16ToF16, kBf16, kF16); }

TEST(CastTest, EveryF16BecomesTheNearestBf16) { CheckAcross(FloatCast::kF16ToBf16, kF16, kBf16); }

TEST(CastTest, KnownValuesAreAsPublished) {
  EXPECT_EQ(CastOne<uint16_t>(FloatCast::kF32ToF16, BitsOf(1.0f)), 0x3C00);
  EXPECT_EQ(CastOne<uint16_t>(FloatCast::kF32ToF16, BitsOf(65504.0f)), 0x7BFF);
  EXPECT_EQ(CastOne<uint16_t>(FloatCast::kF32ToF16, BitsOf(65519.99f)), 0x7BFF);
  EXPECT_EQ(CastOne<uint16_t>(FloatCast::kF32ToF16, BitsOf(65520.0f)), 0x7C00);
  EXPECT_EQ(CastOne<uint16_t>(FloatCast::kF32ToF16, BitsOf(std::ldexp(1.0f, -24))), 0x0001);
  EXPECT_EQ(CastOne<uint16_t>(FloatCast::kF32ToF16, BitsOf(std::ldexp(1.0f, -25))), 0x0000);
  EXPECT_EQ(CastOne<uint16_t>(FloatCast::kF32ToF16, BitsOf(-std::ldexp(3.0f, -26))), 0x8001);
  EXPECT_EQ(CastOne<uint16_t>(FloatCast::kF32ToBf16, BitsOf(3.1415926f)), 0x4049);
  EXPECT_EQ(CastOne<uint16_t>(FloatCast::kF32ToBf16, 0x7F800001u), 0x7FC0);
  EXPECT_EQ(CastOne<uint16_t>(FloatCast::kF32ToBf16, 0x7F7FFFFFu), 0x7F80);
}

TEST(CastTest, RunsNeedNoAlignmentAndTouchNothingBeside) {
  std::string source("?");
  std::vector<uint16_t> expected;
  for (uint32_t i = 0; i < 1'000; ++i) {
    const float value = static_cast<float>(i) / 7;
    source.append(reinterpret_cast<const char*>(&value), sizeof(value));
    expected.push_back(CastOne<uint16_t>(FloatCast::kF32ToBf16, BitsOf(value)));
  }
  std::string destination(1 + 2'000 + 1, '#');
  CastElements(FloatCast::kF32ToBf16, source.data() + 1, destination.data() + 1, 1'000);
  EXPECT_EQ(destination.front(), '#');
  EXPECT_EQ(destination.back(), '#');
  EXPECT_EQ(std::memcmp(destination.data() + 1, expected.data(), 2'000), 0);
}

TEST(CastTest, OnlyTheThreeFloatTypesAreCast) {
  const std::vector<DType> floats = {DType::kF32, DType::kBF16, DType::kF16};
  for (const DType from : floats) {
    for (const DType to : floats) {
      const auto cast = FindFloatCast(from, to);
      ASSERT_EQ(cast.ok(), from != to);
      if (!cast.ok()) continue;
      EXPECT_EQ(CastSourceBytes(*cast) * 8, static_cast<uint32_t>(DTypeBits(from)));
      EXPECT_EQ(CastDestinationBytes(*cast) * 8, static_cast<uint32_t>(DTypeBits(to)));
    }
  }
  const absl::Status none = FindFloatCast(DType::kF8E4M3, DType::kF32).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(none.message().find("F8_E4M3"), absl::string_view::npos) << none;
}

}  // namespace
}  // namespace weightstream
