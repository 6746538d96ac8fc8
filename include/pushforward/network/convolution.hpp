// A convolution of images on a tile, and its adjoint (docs/derivations.md, section 19).
//
// The activations of an image are tile columns, pixel by pixel, a pixel's channels side by side. The pixels that an
// image has are its sites, in their order: some may be missing, which read as zeros and are not computed. W is
// (outputs, kernel, kernel, inputs), so that the inputs of a tap, and their weights, are contiguous. All three products
// are those of panel.hpp, over several runs.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "pushforward/description/limits.hpp"
#include "pushforward/tile/columns.hpp"
#include "pushforward/tile/panel.hpp"

namespace pushforward {

// A convolution has hundreds of columns where a dense layer has dozens. Half the rows of other tiles are enough to fill
// registers, and let two threads share a small minibatch.
inline constexpr Index kConvolutionRows = kTileRows / 2;

enum class Padding { zero, circular };  // what is beyond an edge: zeros, or the opposite edge

// Some pixels of a height x width image, in the order of pixels.
struct Sites {
  Index height, width;
  std::vector<Index> pixels;

  static Sites all(Index height, Index width) {
    Sites sites{height, width, {}};
    for (Index pixel = 0; pixel < height * width; ++pixel) sites.pixels.push_back(pixel);
    return sites;
  }
  Index count() const { return static_cast<Index>(pixels.size()); }
};

class Convolution {
 public:
  static constexpr Index kMostTaps = limits::kKernel.high * limits::kKernel.high;

  Convolution(const Sites& from, const Sites& to, Index inputs, Index outputs, Index kernel, Padding padding)
      : inputs_(inputs),
        outputs_(outputs),
        kernel_(kernel),
        padding_(padding),
        height_(from.height),
        width_(from.width),
        from_(places(from)),
        to_(places(to)) {}

  Index inputs() const { return inputs_; }  // channels
  Index outputs() const { return outputs_; }
  Index taps() const { return kernel_ * kernel_; }
  Index fan_in() const { return taps() * inputs_; }
  Index kernel() const { return kernel_; }
  Index input_sites() const { return static_cast<Index>(from_.pixels.size()); }
  Index output_sites() const { return static_cast<Index>(to_.pixels.size()); }
  Index input_columns() const { return input_sites() * inputs_; }
  Index output_columns() const { return output_sites() * outputs_; }

  // Runs are written to an array of kMostTaps, and valid as long as it is.
  using Memory = std::array<panel::Run, static_cast<std::size_t>(kMostTaps)>;

  // What an output site reads, with the weights of outputs_together(): neighbouring sites under neighbouring taps are
  // one run.
  panel::Runs reads(Index site, Memory& memory) const {
    Index count = 0;
    for (Index tap = 0; tap < taps(); ++tap) {
      const Index input = neighbour(to_, site, offset(tap), from_);
      if (input < 0) continue;
      const panel::Run run{input * inputs_ * kTileRows, tap * inputs_ * outputs_, inputs_};
      panel::Run* last = count > 0 ? &at(memory, count - 1) : nullptr;
      if (last && last->left + last->depth * kTileRows == run.left && last->right + last->depth * outputs_ == run.right)
        last->depth += run.depth;
      else
        at(memory, count++) = run;
    }
    return {memory.data(), memory.data() + count};
  }

  // What the derivative by an input site reads: the output sites that read it.
  panel::Runs read_by(Index site, Memory& memory) const {
    Index count = 0;
    for (Index tap = 0; tap < taps(); ++tap) {
      const Offset there = offset(tap);
      const Index output = neighbour(from_, site, {-there.row, -there.column}, to_);
      if (output >= 0) at(memory, count++) = {output * outputs_ * kTileRows, tap * inputs_, outputs_};
    }
    return {memory.data(), memory.data() + count};
  }

  // Calls f(output site, input site) for each site that reads another under a tap.
  template <class F>
  EIGEN_ALWAYS_INLINE void for_each_pair(Index tap, F&& f) const {
    const Offset there = offset(tap);
    for (Index output = 0; output < output_sites(); ++output)
      if (const Index input = neighbour(to_, output, there, from_); input >= 0) f(output, input);
  }

 private:
  struct Offset {
    Index row, column;
  };
  struct Places {
    std::vector<Offset> pixels;  // of each site
    std::vector<Index> numbers;  // of each pixel's site; -1 if it is missing
  };

  static Places places(const Sites& sites) {
    Places result{{}, std::vector<Index>(static_cast<std::size_t>(sites.height * sites.width), -1)};
    for (const Index pixel : sites.pixels) {
      result.numbers[static_cast<std::size_t>(pixel)] = static_cast<Index>(result.pixels.size());
      result.pixels.push_back({pixel / sites.width, pixel % sites.width});
    }
    return result;
  }

  static panel::Run& at(Memory& memory, Index i) { return memory[static_cast<std::size_t>(i)]; }

  // From an output to the input under a tap.
  Offset offset(Index tap) const { return {tap / kernel_ - kernel_ / 2, tap % kernel_ - kernel_ / 2}; }

  // The site so far away; -1 if it is missing.
  Index neighbour(const Places& here, Index site, Offset away, const Places& there) const {
    const Offset& pixel = here.pixels[static_cast<std::size_t>(site)];
    const Index row = moved(pixel.row + away.row, height_), column = moved(pixel.column + away.column, width_);
    return row < 0 || column < 0 ? -1 : there.numbers[static_cast<std::size_t>(row * width_ + column)];
  }

  // A coordinate of an axis; -1 if it is beyond the edge.
  Index moved(Index coordinate, Index extent) const {
    if (coordinate >= 0 && coordinate < extent) return coordinate;
    return padding_ == Padding::zero ? -1 : (coordinate % extent + extent) % extent;
  }

  Index inputs_, outputs_, kernel_;
  Padding padding_;
  Index height_, width_;
  Places from_, to_;
};

namespace detail {

// Rows go through all sites of a convolution in strips, so that what neighbouring sites share stays in the first cache.
template <class Scalar, class F>
void for_each_strip(Index padded, F&& f) {
  constexpr Index kStrip = panel::kHeight * Vec<Scalar>::kWidth;
  for (Index row = 0; row < padded; row += kStrip) f(row, std::min(kStrip, padded - row));
}

}  // namespace detail

// A copy of the weights as (kernel, kernel, inputs, outputs), fan_in * outputs numbers. Products over inputs are a
// quarter faster with it: the weights that a block of outputs reads are then in one place, not in as many as there are
// outputs.
template <class Scalar>
const Scalar* outputs_together(const Convolution& shape, const Scalar* weight, Scalar* to) {
  for (Index input = 0; input < shape.fan_in(); ++input)
    for (Index output = 0; output < shape.outputs(); ++output)
      to[input * shape.outputs() + output] = weight[output * shape.fan_in() + input];
  return to;
}

// With the weights of outputs_together().
// y[p, o] = start(o) + sum over taps t and inputs i of x[p + t, i] W[o, t, i]: store(p, o, row, sums).
template <class Scalar, class Start, class Store>
void convolve(const Convolution& shape, const Scalar* weight, Index padded, Columns<const Scalar> x, Start start,
              Store store) {
  Convolution::Memory memory;
  detail::for_each_strip<Scalar>(padded, [&](Index row, Index height) {
    for (Index site = 0; site < shape.output_sites(); ++site)
      panel::product<Scalar>(height, shape.reads(site, memory), shape.outputs(), x.data() + row, kTileRows,
                             {weight, 1, shape.outputs()}, start,
                             [&](Index m, Index output, Vec<Scalar> sum) { store(site, output, row + m, sum); });
  });
}

// dx[q, i] = sum over taps t and outputs o of dy[q - t, o] W[o, t, i]: store(q, i, row, sums).
template <class Scalar, class Store>
void convolve_vjp_input(const Convolution& shape, const Scalar* weight, Index padded, Columns<const Scalar> dy,
                        Store store) {
  Convolution::Memory memory;
  detail::for_each_strip<Scalar>(padded, [&](Index row, Index height) {
    for (Index site = 0; site < shape.input_sites(); ++site)
      panel::product<Scalar>(
          height, shape.read_by(site, memory), shape.inputs(), dy.data() + row, kTileRows, {weight, 1, shape.fan_in()},
          [](Index) { return Scalar(0); },
          [&](Index m, Index input, Vec<Scalar> sum) { store(site, input, row + m, sum); });
  });
}

// dW[o, t, i] += sum over sites p and rows of dy[p, o] x[p + t, i]. One factor is transposed, whose channels then fill
// registers: the inputs, or the outputs if that wastes fewer lanes.
template <class Scalar>
class WeightGradient {
 public:
  explicit WeightGradient(const Convolution& shape) : shape_(shape) {}

  Index scratch_columns() const {
    return over_inputs() ? shape_.input_sites() * whole_lanes(shape_.inputs())
                         : shape_.output_sites() * whole_lanes(shape_.outputs());
  }

  void add(Index rows, Index padded, Columns<const Scalar> x, Columns<const Scalar> dy, Scalar* transposed,
           Scalar* dweight) const {
    const bool left_is_x = over_inputs();
    const Index channels = left_is_x ? shape_.inputs() : shape_.outputs(), stride = whole_lanes(channels);
    const Index sites = left_is_x ? shape_.input_sites() : shape_.output_sites();
    const Columns<const Scalar> left = left_is_x ? x : dy, right = left_is_x ? dy : x;
    for (Index site = 0; site < sites; ++site)
      panel::transpose(padded, channels, left.from(site * channels), transposed + site * stride * kTileRows, stride);
    for (Index tap = 0; tap < shape_.taps(); ++tap)
      panel::product<Scalar>(
          whole_packets(channels), Pairs{shape_, tap, left_is_x, stride, rows},
          left_is_x ? shape_.outputs() : shape_.inputs(), transposed, stride, {right.data(), kTileRows, 1},
          [](Index) { return Scalar(0); },
          [&](Index first, Index column, Vec<Scalar> sum) {
            if (left_is_x) {
              sum.add_to(dweight + column * shape_.fan_in() + tap * channels + first, channels - first);
            } else {
              alignas(64) Scalar values[V::kWidth];
              sum.store(values);
              for (Index i = 0; i < std::min<Index>(V::kWidth, channels - first); ++i)
                dweight[(first + i) * shape_.fan_in() + tap * shape_.inputs() + column] += values[i];
            }
          });
  }

 private:
  using V = Vec<Scalar>;

  static Index whole_packets(Index count) { return (count + V::kWidth - 1) / V::kWidth * V::kWidth; }

  bool over_inputs() const {
    return whole_packets(shape_.inputs()) * shape_.outputs() <= whole_packets(shape_.outputs()) * shape_.inputs();
  }

  // A tap's pairs of an output site and the input site that it reads, each a run over rows.
  struct Pairs {
    const Convolution& shape;
    Index tap;
    bool left_is_x;
    Index stride, rows;

    template <class F>
    EIGEN_ALWAYS_INLINE void for_each_run(F&& f) const {
      shape.for_each_pair(tap, [&](Index output, Index input) {
        if (left_is_x)
          f(input * stride * kTileRows, output * shape.outputs() * kTileRows, rows);
        else
          f(output * stride * kTileRows, input * shape.inputs() * kTileRows, rows);
      });
    }
  };

  const Convolution& shape_;
};

// to[channel] += the sum over sites and rows of from[site, channel].
template <class Scalar>
void add_site_sums(Index padded, Index sites, Index channels, Columns<const Scalar> from, Scalar* to) {
  using V = Vec<Scalar>;
  for (Index first = 0; first < channels; first += V::kWidth) {
    V square[V::kWidth];
#pragma GCC unroll 16
    for (int i = 0; i < V::kWidth; ++i) {
      V sum = 0;
      if (first + i < channels)
        for (Index site = 0; site < sites; ++site)
          for (Index row = 0; row < padded; row += V::kWidth) sum += V::load(from[site * channels + first + i] + row);
      square[i] = sum;
    }
    V::transpose(square);
    V sum = square[0];
#pragma GCC unroll 16
    for (int i = 1; i < V::kWidth; ++i) sum += square[i];
    sum.add_to(to + first, channels - first);
  }
}

}  // namespace pushforward
