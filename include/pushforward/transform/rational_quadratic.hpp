// Monotone rational-quadratic splines (Durkan, Bekasov, Murray, Papamakarios 2019, section 3.1; Gregory and Delbourgo
// 1982): on the line inside [-bound, bound] with linear tails, on a box with free slopes at its ends, on a circle with
// equal slopes where the ends meet and a rotation (Rezende et al. 2020). The closed form is x -> z, the
// direction that training runs; z -> x takes the root of a quadratic.
//
// A feature's parameters are widths, heights, slopes at the knots that have any of their own, and for a circle the
// rotation. A map takes 2 bins + 2 exponentials a value, and three logarithms; its adjoint, which takes up the shares
// of the bins and the place in the bin that was hit, takes none.
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

// The kernel for one register of rows of one feature. kBins: the number of bins where it is compiled in, 0 elsewhere.
template <class Scalar, Domain kDomain, int kBins>
class SplineKernel {
 public:
  using V = Vec<Scalar>;

  explicit SplineKernel(const SplineOptions& options)
      : bins_(options.bins),
        clips_(options.scheme == SplineScheme::clip),
        bound_(static_cast<Scalar>(kDomain == Domain::line  ? options.bound
                                   : kDomain == Domain::box ? 1.0
                                                            : kPi)),
        least_width_(least(options.min_width)),
        least_height_(least(options.min_height)),
        min_slope_(static_cast<Scalar>(options.min_slope)),
        // Slopes are min + softplus(u + offset): 1 at u = 0, so that parameters of zero are the identity.
        slope_offset_(static_cast<Scalar>(std::log(std::expm1(1 - options.min_slope)))),
        inverse_clip_(static_cast<Scalar>(-1 / std::log(options.min_slope))) {}

  Index parameter_count() const { return 2 * bins() + slope_count() + (kDomain == Domain::circle ? 1 : 0); }
  Index saved_columns() const {
    return std::max<Index>(kPlaceColumns - slope_count(), 0) + (clips_ ? 2 * bins() : Index(0));
  }

  // x -> z
  V inverse(Cache<Scalar> cache, V x, V& log_det) const {
    const V turn = rotation(cache.theta);
    share_out(cache);
    const Bin bin = find(cache.theta, x, Side::x);
    Place at = place(bin, cache.saved != nullptr);
    at.xi = within((x - bin.x) * at.per_width);
    const Curve curve(at);
    const V z = fma(at.height, curve.n * curve.per_q, bin.z);
    log_det = log(curve.slope());
    if constexpr (kDomain == Domain::line) {
      const Mask outside = abs(x) > bound_;
      at.bin = V::select(outside, kNoBin, at.bin);
      save(at, cache);
      log_det = V::select(outside, V(0), log_det);
      return V::select(outside, x, z);
    } else {
      save(at, cache);
      return kDomain == Domain::circle ? wrap(z + turn) : z;
    }
  }

  // z -> x
  V forward(Cache<Scalar> cache, V z, V& log_det) const {
    const V turn = rotation(cache.theta);
    share_out(cache);
    const V y = kDomain == Domain::circle ? wrap(z - turn) : z;
    const Bin bin = find(cache.theta, y, Side::z);
    Place at = place(bin, cache.saved != nullptr);
    at.xi = root(at, within((y - bin.z) / bin.height));
    const V x = fma(at.xi, bin.width, bin.x);
    log_det = -log(Curve(at).slope());
    if constexpr (kDomain == Domain::line) {
      const Mask outside = abs(z) > bound_;
      at.bin = V::select(outside, kNoBin, at.bin);
      save(at, cache);
      log_det = V::select(outside, V(0), log_det);
      return V::select(outside, z, x);
    } else {
      save(at, cache);
      return x;
    }
  }

  V inverse_vjp(Cache<const Scalar> cache, V dz, V dlog_det, Scalar* dtheta) const {
    const Place at = saved(cache);
    const V dx = vjp(cache, at, Curve(at), dz, dlog_det, dtheta);
    return kDomain == Domain::line ? V::select(at.bin < V(0), dz, dx) : dx;
  }

  // With z = f(x) and L = log f'(x): x moves by dz / f', and log_det = -L along with it, so that the adjoint of the
  // inverse function is that of f at x with the seeds -u and -dlog_det, where u = (dx - dlog_det L_x) / f'.
  V forward_vjp(Cache<const Scalar> cache, V dx, V dlog_det, Scalar* dtheta) const {
    const Place at = saved(cache);
    const Curve curve(at);
    const V u = (dx - dlog_det * curve.log_slope_slope(at) * at.per_width) / curve.slope();
    vjp(cache, at, curve, -u, -dlog_det, dtheta);
    return kDomain == Domain::line ? V::select(at.bin < V(0), dx, u) : u;
  }

 private:
  using Mask = typename V::Mask;
  enum class Side { x, z };
  static constexpr Scalar kNoBin = -1;  // of a point on the tails

  // The bin that a point falls into: its number, lower knot, extents, and the parameters of the slopes at both knots.
  struct Bin {
    V number, x, z, width, height, raw_left, raw_right;
  };

  // A point in its bin, xi in [0, 1] of the width; left, right: slopes at the knots, and their slopes by the
  // parameters.
  struct Place {
    V bin, xi, per_width, height, left, right, left_slope, right_slope;
  };
  static constexpr Index kPlaceColumns = 8;

  // The parts of equations 4 and 5 there: z = lower knot + height n / q and dz/dx = s^2 m / q^2.
  struct Curve {
    V s, rest, eta, n, q, m, per_q;  // s = height / width, rest = 1 - xi, eta = xi (1 - xi)

    explicit Curve(const Place& at) : s(at.height * at.per_width), rest(V(1) - at.xi), eta(at.xi * rest) {
      const V sloping = at.left + at.right;
      n = fma(s * at.xi, at.xi, at.left * eta);
      q = fma(s, fma(V(-2), eta, V(1)), sloping * eta);
      m = fma(at.right * at.xi, at.xi, fma(s + s, eta, at.left * rest * rest));
      per_q = V(1) / q;
    }

    V slope() const {
      const V ratio = s * per_q;
      return ratio * ratio * m;
    }
    // d log slope / d xi
    V log_slope_slope(const Place& at) const {
      const V tilt = V(1) - (at.xi + at.xi);
      return V(2) *
             ((at.right * at.xi + s * tilt - at.left * rest) / m - (at.left + at.right - (s + s)) * tilt * per_q);
    }
  };

  Index bins() const { return kBins > 0 ? kBins : bins_; }

  // Slopes with a parameter: those at the inner knots, at all knots, at all knots of which the ends are one.
  Index slope_count() const {
    return kDomain == Domain::line ? bins() - 1 : kDomain == Domain::box ? bins() + 1 : bins();
  }
  static constexpr Index kFirstKnot = kDomain == Domain::line ? 1 : 0;  // the first with a parameter

  // An extent is least + share, the shares being a softmax of what the least ones leave of 2 bound.
  Scalar least(double fraction) const { return clips_ ? Scalar(0) : 2 * bound_ * static_cast<Scalar>(fraction); }
  Scalar rest(Scalar least) const { return 2 * bound_ - static_cast<Scalar>(bins()) * least; }

  template <class T>
  T* slopes(T* theta) const {
    return theta + 2 * bins() * kTileRows;
  }

  // The parameter of the slope at a knot; the ends of the line have slope 1, that of the tails.
  V raw_slope(const Scalar* theta, Index knot) const {
    if (kDomain == Domain::line && (knot == 0 || knot == bins())) return 0;
    if (kDomain == Domain::circle && knot == bins()) knot = 0;
    return V::load(slopes(theta) + (knot - kFirstKnot) * kTileRows);
  }

  // Within a turn: the parameter of any size means the same angle in both directions.
  V rotation(const Scalar* theta) const {
    if constexpr (kDomain != Domain::circle) return 0;
    return wrap(V::load(slopes(theta) + slope_count() * kTileRows));
  }

  static V wrap(V angle) {
    const V turns = floor(fma(angle, V(0.5 / kPi), V(0.5)));
    return angle - turns * V(2 * kPi);
  }

  // Against rounding, and against points outside, whose result is not used.
  static V within(V fraction) { return min(max(fraction, 0), 1); }

  // Where the place is kept: in the slopes' columns, which nobody needs once it is found, and in the saved ones.
  template <class T>
  T* place_column(Cache<T> cache, Index i) const {
    return i < slope_count() ? slopes(cache.theta) + i * kTileRows : cache.saved + (i - slope_count()) * kTileRows;
  }

  void save(const Place& at, Cache<Scalar> cache) const {
    if (!cache.saved) return;
    const V values[] = {at.bin, at.xi, at.per_width, at.height, at.left, at.right, at.left_slope, at.right_slope};
    for (Index i = 0; i < kPlaceColumns; ++i) values[i].store(place_column(cache, i));
  }

  Place saved(Cache<const Scalar> cache) const {
    const auto load = [&](Index i) { return V::load(place_column(cache, i)); };
    return {load(0), load(1), load(2), load(3), load(4), load(5), load(6), load(7)};
  }

  // Replaces the parameters of widths and heights by the shares. Where they are clipped, the slopes of that are saved.
  void share_out(Cache<Scalar> cache) const {
    if (clips_)
      for (Index k = 0; k < 2 * bins(); ++k) {
        const V u = V::load(cache.theta + k * kTileRows), shrink = V(1) / fma(abs(u), 2 * inverse_clip_, V(1));
        (u * shrink).store(cache.theta + k * kTileRows);
        if (cache.saved) (shrink * shrink).store(clip_slope(cache.saved, k));
      }
    softmax(cache.theta, rest(least_width_));
    softmax(cache.theta + bins() * kTileRows, rest(least_height_));
  }

  template <class T>
  T* clip_slope(T* saved, Index k) const {
    return saved + (std::max<Index>(kPlaceColumns - slope_count(), 0) + k) * kTileRows;
  }

  void softmax(Scalar* u, Scalar whole) const {
    V largest = V::load(u);
    for (Index k = 1; k < bins(); ++k) largest = max(largest, V::load(u + k * kTileRows));
    V sum = 0;
    for (Index k = 0; k < bins(); ++k) {
      const V value = exp(V::load(u + k * kTileRows) - largest);
      value.store(u + k * kTileRows);
      sum += value;
    }
    const V scale = V(whole) / sum;
    for (Index k = 0; k < bins(); ++k) (V::load(u + k * kTileRows) * scale).store(u + k * kTileRows);
  }

  Bin find(const Scalar* theta, V point, Side side) const {
    const auto width = [&](Index k) { return V::load(theta + k * kTileRows) + least_width_; };
    const auto height = [&](Index k) { return V::load(theta + (bins() + k) * kTileRows) + least_height_; };
    Bin bin{0, -bound_, -bound_, width(0), height(0), raw_slope(theta, 0), raw_slope(theta, 1)};
    V x = bin.x + bin.width, z = bin.z + bin.height;
    for (Index k = 1; k < bins(); ++k) {
      const Mask beyond = point >= (side == Side::x ? x : z);
      const V wide = width(k), high = height(k);
      bin.number = V::select(beyond, static_cast<Scalar>(k), bin.number);
      bin.x = V::select(beyond, x, bin.x);
      bin.z = V::select(beyond, z, bin.z);
      bin.width = V::select(beyond, wide, bin.width);
      bin.height = V::select(beyond, high, bin.height);
      bin.raw_left = V::select(beyond, raw_slope(theta, k), bin.raw_left);
      bin.raw_right = V::select(beyond, raw_slope(theta, k + 1), bin.raw_right);
      x += wide;
      z += high;
    }
    return bin;
  }

  // All but xi; the slopes' slopes only where they are kept.
  Place place(const Bin& bin, bool keeps) const {
    Place at;
    at.bin = bin.number;
    at.per_width = V(1) / bin.width;
    at.height = bin.height;
    at.left = slope(bin.raw_left, keeps ? &at.left_slope : nullptr);
    at.right = slope(bin.raw_right, keeps ? &at.right_slope : nullptr);
    return at;
  }

  // The slope at a knot, and its slope by the parameter.
  V slope(V raw, V* by_raw) const {
    if (clips_) {
      const V shrink = V(1) / fma(abs(raw), inverse_clip_, V(1));
      const V slope = exp(raw * shrink);
      if (by_raw) *by_raw = slope * shrink * shrink;
      return slope;
    }
    // softplus(u) = max(u, 0) + log(1 + e) with e = exp(-|u|), and its slope 1 / (1 + e) or e / (1 + e)
    const V u = raw + slope_offset_, e = exp(-abs(u)), sum = e + 1;
    if (by_raw) *by_raw = V::select(u < V(0), e, V(1)) / sum;
    return (max(u, 0) + min_slope_) + log(sum);
  }

  // xi with value z: the root of (s - b) xi^2 + b xi - s y = 0 in [0, 1] (equations 6 to 8), arranged so that nothing
  // cancels: with e = left (1 - y) - right y, b = e + 2 s y and the discriminant is a sum of squares. y: z's fraction
  // of the height.
  static V root(const Place& at, V y) {
    const V s = at.height * at.per_width, above = V(1) - y;
    const V e = at.left * above - at.right * y;
    const V b = fma(s + s, y, e);
    const V root = sqrt(fma(e, e, V(4) * s * s * y * above));
    // Neither denominator is 0: b >= 0 means y = 0 and b = left, or a root above 0; b < 0 means s - b > s.
    const Mask rising = b >= V(0);
    return within(V::select(rising, (s + s) * y, root - b) / V::select(rising, b + root, V(2) * (s - b)));
  }

  // Adds nothing up: each value has its own parameters. Returns dx.
  V vjp(Cache<const Scalar> cache, const Place& at, const Curve& curve, V dz, V dlog_slope, Scalar* dtheta) const {
    const V xi = at.xi, rest_xi = curve.rest, eta = curve.eta, s = curve.s;
    const V twice = dlog_slope + dlog_slope, value = curve.n * curve.per_q;
    // z = bin.z + height n / q
    const V dn = dz * at.height * curve.per_q;
    const V dm = dlog_slope / curve.m;
    // log_slope = 2 log s + log m - 2 log q
    const V dq = -fma(dn, value, twice * curve.per_q);
    // q = s + t eta,  t = left + right - 2 s
    const V dt = dq * eta, t = at.left + at.right - (s + s);
    // n = s xi^2 + left eta,  m = right xi^2 + 2 s eta + left (1 - xi)^2
    const V dleft = fma(dm * rest_xi, rest_xi, fma(dn, eta, dt));
    const V dright = fma(dm * xi, xi, dt);
    // ds of all but 2 log s, whose 2 / s comes in below
    const V ds = fma(dm + dm, eta, dq - (dt + dt)) + dn * xi * xi;
    const V deta = fma(dm + dm, s, fma(dq, t, dn * at.left));
    // eta = xi - xi^2
    const V dxi = fma(dm + dm, at.right * xi - at.left * rest_xi, fma((dn + dn) * s, xi, deta * (rest_xi - xi)));
    // s = height / width,  xi = (x - bin.x) / width
    const V dx = dxi * at.per_width;
    const V dheight = fma(dz, value, fma(ds, at.per_width, twice / at.height));
    const V dwidth = -(fma(ds, s, fma(dxi, xi, twice)) * at.per_width);

    // Extents are least + share, share_k = whole p_k with p a softmax: du_k = share_k (d_k - sum_i p_i d_i), where d is
    // the derivative by the extents. A bin below the one that was hit moves its lower knot.
    const Scalar *widths = cache.theta, *heights = widths + bins() * kTileRows;
    V widths_below = 0, heights_below = 0, width = 0, height = 0;
    for (Index k = 0; k < bins(); ++k) {
      const Mask below = at.bin > V(k), here = at.bin == V(k);
      const V wide = V::load(widths + k * kTileRows), high = V::load(heights + k * kTileRows);
      widths_below = V::select(below, widths_below + wide, widths_below);
      heights_below = V::select(below, heights_below + high, heights_below);
      width = V::select(here, wide, width);
      height = V::select(here, high, height);
    }
    const V mean_width = fma(dwidth, width, -(dx * widths_below)) * V(1 / rest(least_width_));
    const V mean_height = fma(dheight, height, dz * heights_below) * V(1 / rest(least_height_));
    const V width_below = -(dx + mean_width), width_here = dwidth - mean_width;
    const V height_below = dz - mean_height, height_here = dheight - mean_height;
    // A point on the tails has no bin: it moves nothing.
    const Mask inside = at.bin >= V(0);
    const V width_above = V::select(inside, -mean_width, V(0)), height_above = V::select(inside, -mean_height, V(0));
    const V draw_left = dleft * at.left_slope, draw_right = dright * at.right_slope;
    V from_left = 0;  // what knot k is given as the upper end of bin k - 1
    for (Index k = 0; k < bins(); ++k) {
      const Mask below = at.bin > V(k), here = at.bin == V(k);
      V du = V::select(below, width_below, V::select(here, width_here, width_above));
      V dv = V::select(below, height_below, V::select(here, height_here, height_above));
      du = du * V::load(widths + k * kTileRows);
      dv = dv * V::load(heights + k * kTileRows);
      if (clips_) {
        du = du * V::load(clip_slope(cache.saved, k));
        dv = dv * V::load(clip_slope(cache.saved, bins() + k));
      }
      du.store(dtheta + k * kTileRows);
      dv.store(dtheta + (bins() + k) * kTileRows);
      if (k >= kFirstKnot) V::select(here, draw_left, from_left).store(dslope(dtheta, k));
      from_left = V::select(here, draw_right, V(0));
    }
    if constexpr (kDomain == Domain::box) from_left.store(dslope(dtheta, bins()));
    if constexpr (kDomain == Domain::circle) {
      (V::load(dslope(dtheta, 0)) + from_left).store(dslope(dtheta, 0));
      dz.store(slopes(dtheta) + slope_count() * kTileRows);
    }
    return dx;
  }

  Scalar* dslope(Scalar* dtheta, Index knot) const { return slopes(dtheta) + (knot - kFirstKnot) * kTileRows; }

  Index bins_;
  bool clips_;
  Scalar bound_, least_width_, least_height_, min_slope_, slope_offset_, inverse_clip_;
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

  Index saved_columns(Domain domain) const override {
    return with(domain, [](const auto& kernel) { return kernel.saved_columns(); });
  }

  void map(Direction direction, Domain domain, Index padded, Cache<Scalar> cache, Scalar* state,
           double* log_det) const override {
    with(domain, [&](const auto& kernel) { map_column(kernel, direction, padded, cache, state, log_det); });
  }

  void vjp(Direction direction, Domain domain, Index padded, Cache<const Scalar> cache, const Scalar* dlog_det,
           Scalar* dstate, Scalar* dtheta) const override {
    with(domain, [&](const auto& kernel) { vjp_column(kernel, direction, padded, cache, dlog_det, dstate, dtheta); });
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
