// The ranges of the numbers in a description. Each stands here once; the Python package reads them from the compiled
// core.
#pragma once

#include <cstdint>
#include <limits>

#include "pushforward/tile/tile.hpp"

namespace pushforward::limits {

// Files of this format and older ones can be read; a change that older readers would misread counts it up.
inline constexpr Index kFileFormat = 2;

template <class T>
struct Range {
  T low, high;
};

// Widths of hidden layers: below 2^31, products and sums of widths stay far from overflow.
inline constexpr Range<Index> kWidth{1, std::numeric_limits<std::int32_t>::max()};
// Blocks of a residual network, reflections of a Householder layer: each allocates memory before parameters are
// counted.
inline constexpr Range<Index> kBlocks{0, 1000}, kReflections{1, 1000};
inline constexpr Range<double> kDropout{0, 0.999};
// Above 0, and such that float32 holds the number and its inverse.
inline constexpr double kLeast = 1e-30;
inline constexpr Range<double> kMaxLogScale{kLeast, 100}, kBound{kLeast, 1e30}, kFraction{kLeast, 1};
inline constexpr Range<Index> kBins{2, 64};
// Degrees of freedom of a Student t. Learned ones start above the least value that they can reach.
inline constexpr Range<double> kDegrees{0.01, 1e9}, kLearnedDegrees{0.51, 1e9};
// Categories of a column, and columns of categories. In float32 a code is exact, and its logits are tile columns.
inline constexpr Range<Index> kCategories{1, 1 << 16};
// Levels of a pixel, whose cells float32 still divides finely, and the share of the unit interval at either end that
// no level takes.
inline constexpr Range<Index> kLevels{2, 1 << 16};
inline constexpr Range<double> kAlpha{0, 0.25};
// Channels, height and width of an image: their product does not overflow.
inline constexpr Range<Index> kExtent{1, 1 << 16};
// Hidden channels of a convolutional network, its layers, or the blocks of a residual one, and the extent of its
// kernels, which is odd.
inline constexpr Range<Index> kChannels{1, 1 << 16}, kConvolutions{0, 64}, kKernel{1, 15};
// Components of a mixture.
inline constexpr Range<Index> kComponents{1, 256};

}  // namespace pushforward::limits
