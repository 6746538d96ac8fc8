// Monotone rational-quadratic splines (Durkan, Bekasov, Murray, Papamakarios 2019, section 3.1; Gregory and Delbourgo
// 1982): on the line inside [-bound, bound] with linear tails, on a box with free slopes at its ends, on a circle with
// equal slopes where the ends meet and a rotation (Rezende et al. 2020). The closed form is x -> z, the
// direction that training runs; z -> x takes the root of a quadratic.
//
// A feature's parameters are widths, heights, slopes at the knots that have any of their own, and for a circle the
// rotation. A map leaves the softmax of widths and heights in their place, which its adjoint takes up: 2 bins
// exponentials a value, and three logarithms and two exponentials more for the slopes and the log-determinant.
#pragma once

#include <cmath>
#include <stdexcept>

#include "pushforward/transform/transform.hpp"

namespace pushforward {

// How parameters become extents and slopes.
enum class SplineScheme {
  floor,  // extents min + (1 - bins min) softmax(u), slopes min + softplus(u + c): Durkan et al. 2019, section 3.1
  clip,   // u softly bounded, extents softmax(u), slopes exp(u), so that they stay above min_slope
};

struct SplineOptions {
  Index bins;
  double bound, min_width, min_height, min_slope;
  SplineScheme scheme;

  void check() const {
    const auto fits = [this](double least) { return least > 0 && least * static_cast<double>(bins) < 1; };
    if (bins < 2 || bins > 64 || !(bound > 0) || !(min_slope > 0 && min_slope < 1) || !fits(min_width) ||
        !fits(min_height))
      throw std::invalid_argument("a spline's bins or bounds are out of range");
  }
};

inline constexpr Index kMostBins = 64;

// The kernel for one lane block of one feature. kBins: the number of bins where it is compiled in, 0 elsewhere.
template <class Scalar, Domain kDomain, int kBins>
class SplineKernel {
 public:
  using Block = Lanes<Scalar>;

  explicit SplineKernel(const SplineOptions& options)
      : bins_(options.bins),
        clips_(options.scheme == SplineScheme::clip),
        bound_(static_cast<Scalar>(kDomain == Domain::line  ? options.bound
                                   : kDomain == Domain::box ? 1.0
                                                            : kPi)),
        min_width_(static_cast<Scalar>(clips_ ? 0.0 : options.min_width)),
        min_height_(static_cast<Scalar>(clips_ ? 0.0 : options.min_height)),
        min_slope_(static_cast<Scalar>(options.min_slope)),
        // Slopes are min + softplus(u + offset): 1 at u = 0, so that parameters of zero are the identity.
        slope_offset_(static_cast<Scalar>(std::log(std::expm1(1 - options.min_slope)))),
        inverse_clip_(static_cast<Scalar>(-1 / std::log(options.min_slope))) {}

  Index parameter_count() const { return 2 * bins() + slope_count() + (kDomain == Domain::circle ? 1 : 0); }

  // x -> z
  Block inverse(Scalar* theta, const Block& x, Block& log_det) const {
    begin(theta);
    const Shares shares(*this, theta);
    const Bin bin = find(theta, shares, x, Side::x);
    const Point at = point(bin, ratio(x - bin.x, bin.width));
    if constexpr (kDomain == Domain::line) {
      const auto outside = x.abs() > bound_;
      log_det = outside.select(Block::Zero(), at.log_slope());
      return outside.select(x, at.value());
    } else {
      log_det = at.log_slope();
      return kDomain == Domain::circle ? wrap(at.value() + rotation(theta)) : at.value();
    }
  }

  // z -> x
  Block forward(Scalar* theta, const Block& z, Block& log_det) const {
    begin(theta);
    const Shares shares(*this, theta);
    const Block y = kDomain == Domain::circle ? wrap(z - rotation(theta)) : z;
    const Bin bin = find(theta, shares, y, Side::z);
    const Point at = point(bin, root(bin, y));
    const Block x = bin.x + at.xi * bin.width;
    if constexpr (kDomain == Domain::line) {
      const auto outside = z.abs() > bound_;
      log_det = outside.select(Block::Zero(), -at.log_slope());
      return outside.select(z, x);
    } else {
      log_det = -at.log_slope();
      return x;
    }
  }

  Block inverse_vjp(const Scalar* theta, const Block&, const Block& x, const Block& dz, const Block& dlog_det,
                    Scalar* dtheta) const {
    const Shares shares(*this, theta);
    const Bin bin = find(theta, shares, x, Side::x);
    const Point at = point(bin, ratio(x - bin.x, bin.width));
    if constexpr (kDomain == Domain::line) {
      const auto outside = x.abs() > bound_;
      const Block none = Block::Zero();
      const Block dx = vjp(theta, shares, bin, at, outside.select(none, dz), outside.select(none, dlog_det), dtheta);
      return outside.select(dz, dx);
    } else {
      return vjp(theta, shares, bin, at, dz, dlog_det, dtheta);
    }
  }

  // With z = f(x) and L = log f'(x): x moves by dz / f', and log_det = -L along with it, so that the adjoint of the
  // inverse function is that of f at x with the seeds -u and -dlog_det, where u = (dx - dlog_det L_x) / f'.
  Block forward_vjp(const Scalar* theta, const Block&, const Block& x, const Block& dx, const Block& dlog_det,
                    Scalar* dtheta) const {
    const Shares shares(*this, theta);
    const Bin bin = find(theta, shares, x, Side::x);
    const Point at = point(bin, ratio(x - bin.x, bin.width));
    const Block u = (dx - dlog_det * at.log_slope_slope() / bin.width) / at.slope();
    if constexpr (kDomain == Domain::line) {
      const auto outside = x.abs() > bound_;
      const Block none = Block::Zero();
      vjp(theta, shares, bin, at, outside.select(none, -u), outside.select(none, -dlog_det), dtheta);
      return outside.select(dx, u);
    } else {
      vjp(theta, shares, bin, at, -u, -dlog_det, dtheta);
      return u;
    }
  }

 private:
  enum class Side { x, z };

  // The softmax of widths and heights. Where parameters are clipped, theta keeps them clipped for the adjoint, and the
  // softmax is taken anew.
  struct Shares {
    const Scalar *widths, *heights;
    Index stride;
    alignas(64) Scalar own[2 * (kBins > 0 ? kBins : kMostBins) * kLanes];

    Shares(const SplineKernel& kernel, const Scalar* theta) {
      if (!kernel.clips_) {
        widths = theta;
        heights = theta + kernel.bins() * kTileRows;
        stride = kTileRows;
        return;
      }
      widths = own;
      heights = own + kernel.bins() * kLanes;
      stride = kLanes;
      for (Index k = 0; k < 2 * kernel.bins(); ++k) lanes(own + k * kLanes) = lanes(theta + k * kTileRows);
      kernel.softmax(own, kLanes);
      kernel.softmax(own + kernel.bins() * kLanes, kLanes);
    }

    Block width(Index k) const { return lanes(widths + k * stride); }
    Block height(Index k) const { return lanes(heights + k * stride); }
  };

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

  Index bins() const { return kBins > 0 ? kBins : bins_; }

  // Slopes with a parameter: those at the inner knots, at all knots, at all knots of which the ends are one.
  Index slope_count() const {
    return kDomain == Domain::line ? bins() - 1 : kDomain == Domain::box ? bins() + 1 : bins();
  }
  static constexpr Index kFirstKnot = kDomain == Domain::line ? 1 : 0;  // the first with a parameter

  template <class T>
  T* slopes(T* theta) const {
    return theta + 2 * bins() * kTileRows;
  }

  // The parameter of the slope at a knot; the ends of the line have slope 1, that of the tails.
  Block raw_slope(const Scalar* theta, Index knot) const {
    if (kDomain == Domain::line && (knot == 0 || knot == bins())) return Block::Zero();
    if (kDomain == Domain::circle && knot == bins()) knot = 0;
    return lanes(slopes(theta) + (knot - kFirstKnot) * kTileRows);
  }

  // Within a turn: the parameter of any size means the same angle in both directions.
  Block rotation(const Scalar* theta) const { return wrap(lanes(slopes(theta) + slope_count() * kTileRows)); }

  static Block wrap(const Block& angle) {
    constexpr auto turn = static_cast<Scalar>(2 * kPi), per_turn = static_cast<Scalar>(0.5 / kPi);
    return angle - turn * (angle * per_turn + Scalar(0.5)).floor();
  }

  // (x - knot) / width, kept inside [0, 1] against rounding, and against points outside, whose result is not used.
  static Block ratio(const Block& offset, const Block& width) { return (offset / width).max(Scalar(0)).min(Scalar(1)); }

  // What a map does to theta in place.
  void begin(Scalar* theta) const {
    if (clips_) {
      for (Index k = 0; k < 2 * bins(); ++k) {
        auto u = lanes(theta + k * kTileRows);
        u = u / (1 + 2 * inverse_clip_ * u.abs());
      }
    } else {
      softmax(theta, kTileRows);
      softmax(theta + bins() * kTileRows, kTileRows);
    }
  }

  void softmax(Scalar* u, Index stride) const {
    Block largest = lanes(u);
    for (Index k = 1; k < bins(); ++k) largest = largest.max(lanes(u + k * stride));
    Block sum = Block::Zero();
    for (Index k = 0; k < bins(); ++k) {
      lanes(u + k * stride) = (lanes(u + k * stride) - largest).exp();
      sum += lanes(u + k * stride);
    }
    const Block scale = sum.inverse();
    for (Index k = 0; k < bins(); ++k) lanes(u + k * stride) *= scale;
  }

  // 2 bound (min + (1 - bins min) p): the extent of a bin whose softmax is p.
  Block extent(const Block& p, Scalar least) const { return 2 * bound_ * least + share(least) * p; }
  Scalar share(Scalar least) const { return 2 * bound_ * (1 - static_cast<Scalar>(bins()) * least); }

  Bin find(const Scalar* theta, const Shares& shares, const Block& point, Side side) const {
    Bin bin;
    bin.number = Block::Zero();
    bin.x = bin.z = Block::Constant(-bound_);
    bin.width = extent(shares.width(0), min_width_);
    bin.height = extent(shares.height(0), min_height_);
    bin.raw_left = raw_slope(theta, 0);
    bin.raw_right = raw_slope(theta, 1);
    Block x = bin.x + bin.width, z = bin.z + bin.height;
    for (Index k = 1; k < bins(); ++k) {
      const Block edge = side == Side::x ? x : z;
      // Not evaluated: a comparison inside of select() is a mask register, an array of bool is not.
      const auto beyond = point >= edge;
      const Block width = extent(shares.width(k), min_width_), height = extent(shares.height(k), min_height_);
      bin.number = beyond.select(Block::Constant(static_cast<Scalar>(k)), bin.number);
      bin.x = beyond.select(x, bin.x);
      bin.z = beyond.select(z, bin.z);
      bin.width = beyond.select(width, bin.width);
      bin.height = beyond.select(height, bin.height);
      bin.raw_left = beyond.select(raw_slope(theta, k), bin.raw_left);
      bin.raw_right = beyond.select(raw_slope(theta, k + 1), bin.raw_right);
      x += width;
      z += height;
    }
    return bin;
  }

  // log(1 + exp(u)) without overflow
  static Block softplus(const Block& u) { return u.max(Scalar(0)) + (1 + (-u.abs()).exp()).log(); }
  static Block sigmoid(const Block& u) { return (1 + (-u).exp()).inverse(); }

  Block slope(const Block& raw) const {
    if (clips_) return (raw / (1 + inverse_clip_ * raw.abs())).exp();
    return min_slope_ + softplus(raw + slope_offset_);
  }

  // d slope / d raw
  Block slope_slope(const Block& raw, const Block& slope) const {
    if (clips_) return slope / (1 + inverse_clip_ * raw.abs()).square();
    return sigmoid(raw + slope_offset_);
  }

  Point point(const Bin& bin, const Block& xi) const {
    Point at;
    at.z = bin.z;
    at.height = bin.height;
    at.left = slope(bin.raw_left);
    at.right = slope(bin.raw_right);
    at.s = bin.height / bin.width;
    at.xi = xi;
    at.eta = xi * (1 - xi);
    at.t = at.left + at.right - 2 * at.s;
    at.n = at.s * xi.square() + at.left * at.eta;
    at.q = at.s * (1 - 2 * at.eta) + (at.left + at.right) * at.eta;
    at.m = at.right * xi.square() + 2 * at.s * at.eta + at.left * (1 - xi).square();
    return at;
  }

  // xi with value z: the root of (s - b) xi^2 + b xi - s y = 0 in [0, 1] (equations 6 to 8), arranged so that nothing
  // cancels: with e = left (1 - y) - right y, b = e + 2 s y and the discriminant is a sum of squares.
  Block root(const Bin& bin, const Block& z) const {
    const Block s = bin.height / bin.width;
    const Block y = ratio(z - bin.z, bin.height);
    const Block e = slope(bin.raw_left) * (1 - y) - slope(bin.raw_right) * y;
    const Block b = e + 2 * s * y;
    const Block root = (e.square() + 4 * s.square() * y * (1 - y)).sqrt();
    // Neither denominator is 0: b >= 0 means y = 0 and b = left, or a root above 0; b < 0 means s - b > s.
    const Block xi = (b >= Scalar(0)).select(2 * s * y / (b + root), (root - b) / (2 * (s - b)));
    return xi.max(Scalar(0)).min(Scalar(1));
  }

  // Adds nothing up: each value has its own parameters. Returns dx.
  Block vjp(const Scalar* theta, const Shares& shares, const Bin& bin, const Point& at, const Block& dz,
            const Block& dlog_slope, Scalar* dtheta) const {
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
    const Index heights = bins() * kTileRows;
    softmax_vjp(shares.widths, shares.stride, bin.number, share(min_width_), -dx, dwidth, dtheta);
    softmax_vjp(shares.heights, shares.stride, bin.number, share(min_height_), dz, dheight, dtheta + heights);
    if (clips_)
      for (Index k = 0; k < 2 * bins(); ++k)
        // v = u / (1 + 2 |u| / c) has the slope (1 - 2 |v| / c)^2.
        lanes(dtheta + k * kTileRows) *= (1 - 2 * inverse_clip_ * lanes(theta + k * kTileRows).abs()).square();
    const Block draw_left = dleft * slope_slope(bin.raw_left, at.left);
    const Block draw_right = dright * slope_slope(bin.raw_right, at.right);
    Scalar* dslopes = slopes(dtheta);
    for (Index i = 0; i < slope_count(); ++i) {
      const auto knot = static_cast<Scalar>(i + kFirstKnot);
      lanes(dslopes + i * kTileRows) =
          (bin.number == knot).select(draw_left, (bin.number == knot - 1).select(draw_right, Block::Zero()));
    }
    if constexpr (kDomain == Domain::circle) {
      lanes(dslopes) += (bin.number == static_cast<Scalar>(bins() - 1)).select(draw_right, Block::Zero());
      lanes(dslopes + slope_count() * kTileRows) = dz;
    }
    return dx;
  }

  // Extents are constant + share p: the derivative is `below` by those of bins below `number`, `here` by its own, and
  // du_k = share p_k (d_k - sum_i p_i d_i).
  void softmax_vjp(const Scalar* p, Index stride, const Block& number, Scalar share, const Block& below,
                   const Block& here, Scalar* du) const {
    Block mean = Block::Zero();
    for (Index k = 0; k < bins(); ++k) {
      const auto at = static_cast<Scalar>(k);
      const Block d = (number > at).select(below, (number == at).select(here, Block::Zero()));
      lanes(du + k * kTileRows) = d;
      mean += lanes(p + k * stride) * d;
    }
    for (Index k = 0; k < bins(); ++k)
      lanes(du + k * kTileRows) = share * lanes(p + k * stride) * (lanes(du + k * kTileRows) - mean);
  }

  Index bins_;
  bool clips_;
  Scalar bound_, min_width_, min_height_, min_slope_, slope_offset_, inverse_clip_;
};

// kBins: the number of bins of splines on the line, where it is compiled in.
template <class Scalar, int kBins>
class RationalQuadratic final : public Transform<Scalar> {
 public:
  explicit RationalQuadratic(const SplineOptions& options) : line_(options), box_(options), circle_(options) {
    options.check();
  }

  Index parameter_count(Domain domain) const override {
    return with(domain, [](const auto& kernel) { return kernel.parameter_count(); });
  }

  void map(Direction direction, Domain domain, Index padded, Scalar* theta, Scalar* state,
           double* log_det) const override {
    with(domain, [&](const auto& kernel) { map_column(kernel, direction, padded, theta, state, log_det); });
  }

  void vjp(Direction direction, Domain domain, Index padded, const Scalar* theta, const Scalar* z, const Scalar* x,
           const Scalar* dlog_det, Scalar* dstate, Scalar* dtheta) const override {
    with(domain,
         [&](const auto& kernel) { vjp_column(kernel, direction, padded, theta, z, x, dlog_det, dstate, dtheta); });
  }

 private:
  template <class F>
  auto with(Domain domain, F&& f) const {
    if (domain == Domain::line) return f(line_);
    return domain == Domain::box ? f(box_) : f(circle_);
  }

  SplineKernel<Scalar, Domain::line, kBins> line_;
  SplineKernel<Scalar, Domain::box, 0> box_;
  SplineKernel<Scalar, Domain::circle, 0> circle_;
};

}  // namespace pushforward
