// Monotone rational-quadratic splines on [-bound, bound] with linear tails (Durkan, Bekasov, Murray, Papamakarios 2019,
// section 3.1; Gregory and Delbourgo 1982). The closed form is x -> z, the direction that training runs; z -> x takes
// the root of a quadratic.
//
// Of a feature's 3 bins - 1 parameters the first are widths, then heights, then slopes at the inner knots. A map leaves
// the softmax of widths and heights in their place, which its adjoint takes up: 2 bins exponentials a value, and three
// logarithms and two exponentials more for the slopes and the log-determinant.
#pragma once

#include <cmath>
#include <stdexcept>

#include "pushforward/tile.hpp"

namespace pushforward {

template <class Scalar>
class RationalQuadratic {
 public:
  using Block = Lanes<Scalar>;

  RationalQuadratic(Index bins, double bound, double min_width, double min_height, double min_slope)
      : bins_(bins),
        bound_(static_cast<Scalar>(bound)),
        min_width_(static_cast<Scalar>(min_width)),
        min_height_(static_cast<Scalar>(min_height)),
        min_slope_(static_cast<Scalar>(min_slope)),
        // Slopes are min + softplus(u + offset): 1 at u = 0, so that parameters of zero are the identity.
        slope_offset_(static_cast<Scalar>(std::log(std::expm1(1 - min_slope)))) {
    if (bins < 2 || bins > 64 || !(bound > 0) || !(min_slope > 0 && min_slope < 1) ||
        !(min_width > 0 && min_width * static_cast<double>(bins) < 1) ||
        !(min_height > 0 && min_height * static_cast<double>(bins) < 1))
      throw std::invalid_argument("a spline's bins or bounds are out of range");
  }

  Index parameter_count() const { return 3 * bins_ - 1; }

  // x -> z
  Block inverse(Scalar* theta, const Block& x, Block& log_det) const {
    softmax(theta);
    softmax(heights(theta));
    const Bin bin = find(theta, x, Side::x);
    const Point at = point(bin, ratio(x - bin.x, bin.width));
    const auto outside = (x.abs() > bound_).eval();
    log_det = outside.select(Block::Zero(), at.log_slope());
    return outside.select(x, at.value());
  }

  // z -> x
  Block forward(Scalar* theta, const Block& z, Block& log_det) const {
    softmax(theta);
    softmax(heights(theta));
    const Bin bin = find(theta, z, Side::z);
    const Point at = point(bin, root(bin, z));
    const auto outside = (z.abs() > bound_).eval();
    log_det = outside.select(Block::Zero(), -at.log_slope());
    return outside.select(z, bin.x + at.xi * bin.width);
  }

  Block inverse_vjp(const Scalar* theta, const Block&, const Block& x, const Block& dz, const Block& dlog_det,
                    Scalar* dtheta) const {
    const Bin bin = find(theta, x, Side::x);
    const Point at = point(bin, ratio(x - bin.x, bin.width));
    const auto outside = (x.abs() > bound_).eval();
    const Block dx =
        vjp(theta, bin, at, outside.select(Block::Zero(), dz), outside.select(Block::Zero(), dlog_det), dtheta);
    return outside.select(dz, dx);
  }

  // With z = f(x) and L = log f'(x): x moves by dz / f', and log_det = -L along with it, so that the adjoint of the
  // inverse function is that of f at x with the seeds -u and -dlog_det, where u = (dx - dlog_det L_x) / f'.
  Block forward_vjp(const Scalar* theta, const Block&, const Block& x, const Block& dx, const Block& dlog_det,
                    Scalar* dtheta) const {
    const Bin bin = find(theta, x, Side::x);
    const Point at = point(bin, ratio(x - bin.x, bin.width));
    const auto outside = (x.abs() > bound_).eval();
    const Block u = (dx - dlog_det * at.log_slope_slope() / bin.width) / at.slope();
    vjp(theta, bin, at, outside.select(Block::Zero(), -u), outside.select(Block::Zero(), -dlog_det), dtheta);
    return outside.select(dx, u);
  }

 private:
  enum class Side { x, z };

  // The bin that a point falls into: lower knot, extent, and the parameters of the slopes at both knots.
  struct Bin {
    Block number, x, z, width, height, raw_left, raw_right;
  };

  // A place in a bin, xi in [0, 1] of its width, and the parts of equations 4 and 5 there.
  struct Point {
    Block z, height, left, right;  // left, right: slopes at the knots
    Block s, xi, eta;              // s = height / width, eta = xi (1 - xi)
    Block t, n, q, m;              // t = left + right - 2 s; n, q: numerator and denominator; m: of the slope

    Block value() const { return z + height * n / q; }
    Block slope() const { return s.square() * m / q.square(); }
    Block log_slope() const { return 2 * (s / q).log() + m.log(); }
    // d log_slope / d xi
    Block log_slope_slope() const {
      return 2 * (right * xi + s * (1 - 2 * xi) - left * (1 - xi)) / m - 2 * t * (1 - 2 * xi) / q;
    }
  };

  template <class T>
  T* heights(T* theta) const {
    return theta + bins_ * kTileRows;
  }
  template <class T>
  T* slopes(T* theta) const {
    return theta + 2 * bins_ * kTileRows;
  }

  // (x - knot) / width, kept inside [0, 1] against rounding, and against points outside, whose result is not used.
  static Block ratio(const Block& offset, const Block& width) { return (offset / width).max(Scalar(0)).min(Scalar(1)); }

  void softmax(Scalar* u) const {
    Block largest = lanes(u);
    for (Index k = 1; k < bins_; ++k) largest = largest.max(lanes(u + k * kTileRows));
    Block sum = Block::Zero();
    for (Index k = 0; k < bins_; ++k) {
      lanes(u + k * kTileRows) = (lanes(u + k * kTileRows) - largest).exp();
      sum += lanes(u + k * kTileRows);
    }
    const Block scale = sum.inverse();
    for (Index k = 0; k < bins_; ++k) lanes(u + k * kTileRows) *= scale;
  }

  // 2 bound (min + (1 - bins min) p): the extent of a bin whose softmax is p.
  Block extent(const Scalar* p, Scalar least) const { return 2 * bound_ * least + share(least) * lanes(p); }
  Scalar share(Scalar least) const { return 2 * bound_ * (1 - static_cast<Scalar>(bins_) * least); }

  Bin find(const Scalar* theta, const Block& point, Side side) const {
    const Scalar* slope = slopes(theta);
    Bin bin;
    bin.number = Block::Zero();
    bin.x = bin.z = Block::Constant(-bound_);
    bin.width = extent(theta, min_width_);
    bin.height = extent(heights(theta), min_height_);
    bin.raw_left = Block::Zero();
    bin.raw_right = lanes(slope);
    Block x = bin.x + bin.width, z = bin.z + bin.height;
    for (Index k = 1; k < bins_; ++k) {
      const auto beyond = (point >= (side == Side::x ? x : z)).eval();
      const Block width = extent(theta + k * kTileRows, min_width_);
      const Block height = extent(heights(theta) + k * kTileRows, min_height_);
      bin.number = beyond.select(Block::Constant(static_cast<Scalar>(k)), bin.number);
      bin.x = beyond.select(x, bin.x);
      bin.z = beyond.select(z, bin.z);
      bin.width = beyond.select(width, bin.width);
      bin.height = beyond.select(height, bin.height);
      bin.raw_left = beyond.select(lanes(slope + (k - 1) * kTileRows), bin.raw_left);
      // The outermost knots have slope 1, that of the tails.
      const Block right = k + 1 < bins_ ? Block(lanes(slope + k * kTileRows)) : Block(Block::Zero());
      bin.raw_right = beyond.select(right, bin.raw_right);
      x += width;
      z += height;
    }
    return bin;
  }

  // log(1 + exp(u)) without overflow
  static Block softplus(const Block& u) { return u.max(Scalar(0)) + (1 + (-u.abs()).exp()).log(); }
  static Block sigmoid(const Block& u) { return (1 + (-u).exp()).inverse(); }

  Point point(const Bin& bin, const Block& xi) const {
    Point at;
    at.z = bin.z;
    at.height = bin.height;
    at.left = min_slope_ + softplus(bin.raw_left + slope_offset_);
    at.right = min_slope_ + softplus(bin.raw_right + slope_offset_);
    at.s = bin.height / bin.width;
    at.xi = xi;
    at.eta = xi * (1 - xi);
    at.t = at.left + at.right - 2 * at.s;
    at.n = at.s * xi.square() + at.left * at.eta;
    at.q = at.s + at.t * at.eta;
    at.m = at.right * xi.square() + 2 * at.s * at.eta + at.left * (1 - xi).square();
    return at;
  }

  // xi with value z: the root of a xi^2 + b xi + c = 0 in [0, 1], in the form that cancels nothing (equations 6 to 8).
  Block root(const Bin& bin, const Block& z) const {
    const Block left = min_slope_ + softplus(bin.raw_left + slope_offset_);
    const Block right = min_slope_ + softplus(bin.raw_right + slope_offset_);
    const Block s = bin.height / bin.width;
    const Block y = ratio(z - bin.z, bin.height);
    const Block t = left + right - 2 * s;
    const Block a = y * t + s - left;
    const Block b = left - y * t;
    const Block c = -s * y;
    const Block discriminant = (b.square() - 4 * a * c).max(Scalar(0));
    const Block xi = 2 * c / (-b - discriminant.sqrt());
    // The denominator is 0 only where y is.
    return (y > 0).select(xi.max(Scalar(0)).min(Scalar(1)), Block::Zero());
  }

  // Adds nothing up: each value has its own parameters. Returns dx.
  Block vjp(const Scalar* theta, const Bin& bin, const Point& at, const Block& dz, const Block& dlog_slope,
            Scalar* dtheta) const {
    const Block &xi = at.xi, &eta = at.eta, &s = at.s;
    // z = bin.z + height n / q
    const Block dn = dz * at.height / at.q;
    const Block dm = dlog_slope / at.m;
    // log_slope = 2 log s + log m - 2 log q
    const Block dq = -dn * at.n / at.q - 2 * dlog_slope / at.q;
    // q = s + t eta,  t = left + right - 2 s
    const Block dt = dq * eta;
    // n = s xi^2 + left eta,  m = right xi^2 + 2 s eta + left (1 - xi)^2
    const Block dleft = dm * (1 - xi).square() + dt + dn * eta;
    const Block dright = dm * xi.square() + dt;
    const Block ds = 2 * dlog_slope / s + 2 * dm * eta + dq - 2 * dt + dn * xi.square();
    const Block deta = 2 * dm * s + dq * at.t + dn * at.left;
    // eta = xi - xi^2
    const Block dxi = 2 * dm * (at.right * xi - at.left * (1 - xi)) + 2 * dn * s * xi + deta * (1 - 2 * xi);
    // s = height / width,  xi = (x - bin.x) / width
    const Block dx = dxi / bin.width;
    const Block dheight = dz * at.n / at.q + ds / bin.width;
    const Block dwidth = -(ds * s + dxi * xi) / bin.width;
    // A lower bin's extent moves this bin's lower knot.
    softmax_vjp(theta, bin.number, share(min_width_), -dx, dwidth, dtheta);
    softmax_vjp(heights(theta), bin.number, share(min_height_), dz, dheight, heights(dtheta));
    // left = min + softplus(raw + offset)
    const Block draw_left = dleft * sigmoid(bin.raw_left + slope_offset_);
    const Block draw_right = dright * sigmoid(bin.raw_right + slope_offset_);
    for (Index k = 0; k + 1 < bins_; ++k) {
      const auto number = static_cast<Scalar>(k);
      lanes(slopes(dtheta) + k * kTileRows) =
          (bin.number == number + 1).select(draw_left, (bin.number == number).select(draw_right, Block::Zero()));
    }
    return dx;
  }

  // Extents are constant + share p: the derivative is `below` by those of bins below `number`, `here` by its own, and
  // du_k = share p_k (d_k - sum_i p_i d_i).
  void softmax_vjp(const Scalar* p, const Block& number, Scalar share, const Block& below, const Block& here,
                   Scalar* du) const {
    Block mean = Block::Zero();
    for (Index k = 0; k < bins_; ++k) {
      const auto at = static_cast<Scalar>(k);
      const Block d = (number > at).select(below, (number == at).select(here, Block::Zero()));
      lanes(du + k * kTileRows) = d;
      mean += lanes(p + k * kTileRows) * d;
    }
    for (Index k = 0; k < bins_; ++k)
      lanes(du + k * kTileRows) = share * lanes(p + k * kTileRows) * (lanes(du + k * kTileRows) - mean);
  }

  Index bins_;
  Scalar bound_, min_width_, min_height_, min_slope_, slope_offset_;
};

}  // namespace pushforward
