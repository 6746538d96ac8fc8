// Monotone rational-quadratic splines (Durkan, Bekasov, Murray, Papamakarios 2019, section 3.1; Gregory and Delbourgo
// 1982). On the line they act inside [-bound, bound] and have linear tails. On a box the slopes at both ends are free.
// On a circle the slopes are equal where the ends meet, and a rotation follows (Rezende et al. 2020). The closed form
// is x -> z, the direction of training; z -> x takes the root of a quadratic.
//
// Symbols and equation numbers are those of Durkan et al., with z for their y. A feature's parameters are widths,
// heights, slopes at the knots that have one of their own, and for a circle the rotation. A map takes 2 K + 2
// exponentials for K bins, and three logarithms. It keeps the bins' shares and the point's position in its bin, so that
// the adjoint evaluates no exponential and no logarithm.
#pragma once

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "pushforward/description/json.hpp"
#include "pushforward/transform/transform.hpp"

namespace pushforward {

// How parameters become widths, heights and slopes.
enum class SplineScheme {
  floor,  // min + (1 - K min) softmax(theta) of the width, min + softplus(theta + c): Durkan et al. 2019, section 3.1
  clip,   // theta softly bounded, then softmax(theta) and exp(theta), so that slopes stay above min_slope
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

// The kernel for one register of rows of one feature. kBins: the number of bins if it is compiled in, else 0.
// All of it is inlined into the loop over registers: what rows share then stays in registers.
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
        min_w_(least(options.min_width)),
        min_h_(least(options.min_height)),
        min_delta_(static_cast<Scalar>(options.min_slope)),
        // delta = min + softplus(theta + offset) is 1 at theta = 0, so that parameters of zero are the identity.
        delta_offset_(static_cast<Scalar>(std::log(std::expm1(1 - options.min_slope)))),
        inverse_clip_(static_cast<Scalar>(-1 / std::log(options.min_slope))) {}

  Index parameter_count() const { return 2 * bins() + delta_count() + (kDomain == Domain::circle ? 1 : 0); }
  Index saved_columns() const { return position_saved() + (clips_ ? 2 * bins() : Index(0)); }

  // Replaces the parameters of widths and heights by the shares. With the scheme clip they are softly bounded first,
  // and the slopes of that are saved.
  EIGEN_ALWAYS_INLINE void prepare(FeatureCache<Scalar> cache) const {
    if (clips_)
      for (Index k = 0; k < 2 * bins(); ++k) {
        const V u = V::load(cache.theta[k]), shrink = V(1) / fma(abs(u), 2 * inverse_clip_, V(1));
        (u * shrink).store(cache.theta[k]);
        if (cache.saved) (shrink * shrink).store(bound_slope(cache.saved, k));
      }
    softmax(cache.theta, sum_of_shares(min_w_));
    softmax(cache.theta.from(height_column(0)), sum_of_shares(min_h_));
  }

  // x -> z
  EIGEN_ALWAYS_INLINE V inverse(FeatureCache<Scalar> cache, V x, V& log_det) const {
    const V rho = rotation(cache.theta);
    const Bin bin = find(cache.theta, x, Side::x);
    Position at = position_in(bin, static_cast<bool>(cache.saved));
    at.xi = clamped((x - bin.x_k) * at.per_w);
    const Curve curve(at);
    const V z = fma(at.h, curve.n * curve.per_beta, bin.z_k);  // equation 4
    log_det = log(curve.slope());
    if constexpr (kDomain == Domain::line) {
      const Mask outside = abs(x) > bound_;
      at.k = V::select(outside, kNoBin, at.k);
      save(at, cache);
      log_det = V::select(outside, V(0), log_det);
      return V::select(outside, x, z);
    } else {
      save(at, cache);
      return kDomain == Domain::circle ? wrap(z + rho) : z;
    }
  }

  // z -> x
  EIGEN_ALWAYS_INLINE V forward(FeatureCache<Scalar> cache, V z, V& log_det) const {
    const V rho = rotation(cache.theta);
    const V unrotated = kDomain == Domain::circle ? wrap(z - rho) : z;
    const Bin bin = find(cache.theta, unrotated, Side::z);
    Position at = position_in(bin, static_cast<bool>(cache.saved));
    at.xi = root(at, clamped((unrotated - bin.z_k) / bin.h));
    const V x = fma(at.xi, bin.w, bin.x_k);
    log_det = -log(Curve(at).slope());
    if constexpr (kDomain == Domain::line) {
      const Mask outside = abs(z) > bound_;
      at.k = V::select(outside, kNoBin, at.k);
      save(at, cache);
      log_det = V::select(outside, V(0), log_det);
      return V::select(outside, z, x);
    } else {
      save(at, cache);
      return x;
    }
  }

  EIGEN_ALWAYS_INLINE V inverse_vjp(FeatureCache<const Scalar> cache, V dz, V dlog_det, Columns<Scalar> dtheta) const {
    const Position at = saved(cache);
    const V dx = vjp(cache, at, Curve(at), dz, dlog_det, dtheta);
    return kDomain == Domain::line ? V::select(at.k < V(0), dz, dx) : dx;
  }

  // With z = f(x) and L = log f'(x), the map is x = f^-1(z) with log_det = -L. Its adjoint is that of f at x with the
  // seeds -u and -dlog_det, where u = (dx - dlog_det L_x) / f', and dz = u.
  EIGEN_ALWAYS_INLINE V forward_vjp(FeatureCache<const Scalar> cache, V dx, V dlog_det, Columns<Scalar> dtheta) const {
    const Position at = saved(cache);
    const Curve curve(at);
    const V u = (dx - dlog_det * curve.log_slope_by_xi(at) * at.per_w) / curve.slope();
    vjp(cache, at, curve, -u, -dlog_det, dtheta);
    return kDomain == Domain::line ? V::select(at.k < V(0), dx, u) : u;
  }

 private:
  using Mask = typename V::Mask;
  enum class Side { x, z };
  static constexpr Scalar kNoBin = -1;  // of a point on the tails

  // The bin that contains a point: its number, lower knot (x_k, z_k), width, height, and the parameters of the slopes
  // at both knots.
  struct Bin {
    V k, x_k, z_k, w, h, theta_k, theta_k1;
  };

  // What a map keeps of a point: its bin, xi = (x - x_k) / w in [0, 1], 1 / w, h, the slopes delta_k and delta_{k+1} at
  // the bin's knots, and their derivatives by their parameters.
  struct Position {
    V k, xi, per_w, h, delta_k, delta_k1, delta_k_by_theta, delta_k1_by_theta;
  };
  static constexpr Index kPositionColumns = 8;

  // The terms of equations 4 and 5: z = z_k + h n / beta and dz/dx = s^2 m / beta^2.
  struct Curve {
    V s, one_minus_xi, eta, n, beta, m, per_beta;  // s_k = h / w, eta = xi (1 - xi)

    EIGEN_ALWAYS_INLINE explicit Curve(const Position& at)
        : s(at.h * at.per_w), one_minus_xi(V(1) - at.xi), eta(at.xi * one_minus_xi) {
      const V both = at.delta_k + at.delta_k1;
      // Equation 4: n = s xi^2 + delta_k xi (1 - xi), beta = s + (delta_{k+1} + delta_k - 2 s) xi (1 - xi)
      n = fma(s * at.xi, at.xi, at.delta_k * eta);
      beta = fma(s, fma(V(-2), eta, V(1)), both * eta);
      // Equation 5: m = delta_{k+1} xi^2 + 2 s xi (1 - xi) + delta_k (1 - xi)^2
      m = fma(at.delta_k1 * at.xi, at.xi, fma(s + s, eta, at.delta_k * one_minus_xi * one_minus_xi));
      per_beta = V(1) / beta;
    }

    EIGEN_ALWAYS_INLINE V slope() const {
      // In this order, because the ratio's square underflows between steep knots, where m is large.
      const V ratio = s * per_beta;
      return ratio * m * ratio;
    }
    // d log slope / d xi
    EIGEN_ALWAYS_INLINE V log_slope_by_xi(const Position& at) const {
      const V eta_by_xi = V(1) - (at.xi + at.xi);
      return V(2) * ((at.delta_k1 * at.xi + s * eta_by_xi - at.delta_k * one_minus_xi) / m -
                     (at.delta_k + at.delta_k1 - (s + s)) * eta_by_xi * per_beta);
    }
  };

  Index bins() const { return kBins > 0 ? kBins : bins_; }

  // Calls f(k) for the bins from `first` on. Loops over few bins have no branches, whatever the compiler would choose.
  template <class F>
  EIGEN_ALWAYS_INLINE void for_each_bin(Index first, F&& f) const {
    if constexpr (kBins > 0 && kBins <= 8) {
#pragma GCC unroll 8
      for (Index k = first; k < kBins; ++k) f(k);
    } else {
      for (Index k = first; k < bins(); ++k) f(k);
    }
  }

  // The columns of theta: bins() widths, bins() heights, delta_count() slopes, and for a circle the rotation.
  Index height_column(Index k) const { return bins() + k; }
  Index delta_column(Index knot) const { return 2 * bins() + knot - kFirstKnot; }
  Index rotation_column() const { return 2 * bins() + delta_count(); }

  // Slopes with a parameter: on the line those at the inner knots, on a box all, on a circle all, of which the ends are
  // one.
  Index delta_count() const {
    return kDomain == Domain::line ? bins() - 1 : kDomain == Domain::box ? bins() + 1 : bins();
  }
  static constexpr Index kFirstKnot = kDomain == Domain::line ? 1 : 0;  // the first with a parameter

  // A width is min_w + share. The shares are a softmax, scaled to what the least widths leave of 2 bound. Heights
  // likewise.
  Scalar least(double fraction) const { return clips_ ? Scalar(0) : 2 * bound_ * static_cast<Scalar>(fraction); }
  Scalar sum_of_shares(Scalar least) const { return 2 * bound_ - static_cast<Scalar>(bins()) * least; }

  // The parameter of the slope at a knot. At the ends of the line the slope is 1, that of the tails.
  EIGEN_ALWAYS_INLINE V delta_parameter(Columns<const Scalar> theta, Index knot) const {
    if (kDomain == Domain::line && (knot == 0 || knot == bins())) return 0;
    if (kDomain == Domain::circle && knot == bins()) knot = 0;
    return V::load(theta[delta_column(knot)]);
  }

  // Wrapped to one turn first: so a parameter of any size means the same angle in both directions.
  V rotation(Columns<const Scalar> theta) const {
    if constexpr (kDomain != Domain::circle) return 0;
    return wrap(V::load(theta[rotation_column()]));
  }

  static V wrap(V angle) {
    const V turns = floor(fma(angle, V(0.5 / kPi), V(0.5)));
    return angle - turns * V(2 * kPi);
  }

  // A fraction of a bin leaves [0, 1] by rounding, and for points outside, whose result is not used.
  static V clamped(V fraction) { return min(max(fraction, 0), 1); }

  // A position is kept in the columns of the slopes' parameters, which are not needed once it is known, and in the
  // first of the saved ones. The slopes of the soft bounds follow, scheme clip.
  Index position_saved() const { return std::max<Index>(kPositionColumns - delta_count(), 0); }

  template <class T>
  T* position_column(FeatureCache<T> cache, Index i) const {
    return i < delta_count() ? cache.theta[2 * bins() + i] : cache.saved[i - delta_count()];
  }

  template <class T>
  T* bound_slope(Columns<T> saved, Index k) const {
    return saved[position_saved() + k];
  }

  EIGEN_ALWAYS_INLINE void save(const Position& at, FeatureCache<Scalar> cache) const {
    if (!cache.saved) return;
    const V values[] = {
        at.k, at.xi, at.per_w, at.h, at.delta_k, at.delta_k1, at.delta_k_by_theta, at.delta_k1_by_theta};
    for (Index i = 0; i < kPositionColumns; ++i) values[i].store(position_column(cache, i));
  }

  EIGEN_ALWAYS_INLINE Position saved(FeatureCache<const Scalar> cache) const {
    const auto load = [&](Index i) { return V::load(position_column(cache, i)); };
    return {load(0), load(1), load(2), load(3), load(4), load(5), load(6), load(7)};
  }

  EIGEN_ALWAYS_INLINE void softmax(Columns<Scalar> u, Scalar sum_of_results) const {
    V largest = V::load(u[0]);
    for_each_bin(1, [&](Index k) __attribute__((always_inline)) { largest = max(largest, V::load(u[k])); });
    V sum = 0;
    for_each_bin(0, [&](Index k) __attribute__((always_inline)) {
      const V value = exp(V::load(u[k]) - largest);
      value.store(u[k]);
      sum += value;
    });
    const V scale = V(sum_of_results) / sum;
    for_each_bin(0, [&](Index k) __attribute__((always_inline)) { (V::load(u[k]) * scale).store(u[k]); });
  }

  EIGEN_ALWAYS_INLINE Bin find(Columns<const Scalar> theta, V point, Side side) const {
    const auto width = [&](Index k) { return V::load(theta[k]) + min_w_; };
    const auto height = [&](Index k) { return V::load(theta[height_column(k)]) + min_h_; };
    Bin bin{0, -bound_, -bound_, width(0), height(0), delta_parameter(theta, 0), delta_parameter(theta, 1)};
    V x_k = bin.x_k + bin.w, z_k = bin.z_k + bin.h;
    for_each_bin(1, [&](Index k) __attribute__((always_inline)) {
      const Mask beyond = point >= (side == Side::x ? x_k : z_k);
      const V w = width(k), h = height(k);
      bin.k = V::select(beyond, static_cast<Scalar>(k), bin.k);
      bin.x_k = V::select(beyond, x_k, bin.x_k);
      bin.z_k = V::select(beyond, z_k, bin.z_k);
      bin.w = V::select(beyond, w, bin.w);
      bin.h = V::select(beyond, h, bin.h);
      bin.theta_k = V::select(beyond, delta_parameter(theta, k), bin.theta_k);
      bin.theta_k1 = V::select(beyond, delta_parameter(theta, k + 1), bin.theta_k1);
      x_k += w;
      z_k += h;
    });
    return bin;
  }

  // All but xi. The derivatives of the slopes are computed only if they are kept.
  EIGEN_ALWAYS_INLINE Position position_in(const Bin& bin, bool keeps) const {
    Position at;
    at.k = bin.k;
    at.per_w = V(1) / bin.w;
    at.h = bin.h;
    at.delta_k = delta(bin.theta_k, keeps ? &at.delta_k_by_theta : nullptr);
    at.delta_k1 = delta(bin.theta_k1, keeps ? &at.delta_k1_by_theta : nullptr);
    return at;
  }

  // The slope at a knot, and its derivative by the parameter.
  EIGEN_ALWAYS_INLINE V delta(V theta, V* by_theta) const {
    if (clips_) {
      const V shrink = V(1) / fma(abs(theta), inverse_clip_, V(1));
      const V delta = exp(theta * shrink);
      if (by_theta) *by_theta = delta * shrink * shrink;
      return delta;
    }
    // softplus(u) = max(u, 0) + log(1 + e) with e = exp(-|u|), and its slope 1 / (1 + e) or e / (1 + e)
    const V u = theta + delta_offset_, e = exp(-abs(u)), sum = e + 1;
    if (by_theta) *by_theta = V::select(u < V(0), e, V(1)) / sum;
    return (max(u, 0) + min_delta_) + log(sum);
  }

  // xi at z = z_k + y h: the root of (s - b) xi^2 + b xi - s y = 0 in [0, 1] (equations 6 to 8, divided by h), arranged
  // so that nothing cancels. With e = delta_k (1 - y) - delta_{k+1} y, b = e + 2 s y and the discriminant is a sum of
  // squares.
  static EIGEN_ALWAYS_INLINE V root(const Position& at, V y) {
    const V s = at.h * at.per_w, one_minus_y = V(1) - y;
    const V e = at.delta_k * one_minus_y - at.delta_k1 * y;
    const V b = fma(s + s, y, e);
    const V root = sqrt(fma(e, e, V(4) * s * s * y * one_minus_y));
    // Neither denominator is 0: b >= 0 means y = 0 and b = delta_k, or a root above 0; b < 0 means s - b > s.
    const Mask rising = b >= V(0);
    return clamped(V::select(rising, (s + s) * y, root - b) / V::select(rising, b + root, V(2) * (s - b)));
  }

  // The adjoint of x -> z, with the seeds dz and dL of L = log dz/dx: writes dtheta, for the parameters of a row are
  // its own, and returns dx.
  EIGEN_ALWAYS_INLINE V vjp(FeatureCache<const Scalar> cache, const Position& at, const Curve& curve, V dz, V dL,
                            Columns<Scalar> dtheta) const {
    const V xi = at.xi, one_minus_xi = curve.one_minus_xi, eta = curve.eta, s = curve.s;
    const V twice_dL = dL + dL, n_per_beta = curve.n * curve.per_beta;
    // equation 4: z = z_k + h n / beta
    const V dn = dz * at.h * curve.per_beta;
    const V dm = dL / curve.m;
    // equation 5: L = 2 log s + log m - 2 log beta
    const V dbeta = -fma(dn, n_per_beta, twice_dL * curve.per_beta);
    // beta = s + t eta,  t = delta_k + delta_{k+1} - 2 s
    const V dt = dbeta * eta, t = at.delta_k + at.delta_k1 - (s + s);
    // n = s xi^2 + delta_k eta,  m = delta_{k+1} xi^2 + 2 s eta + delta_k (1 - xi)^2
    const V ddelta_k = fma(dm * one_minus_xi, one_minus_xi, fma(dn, eta, dt));
    const V ddelta_k1 = fma(dm * xi, xi, dt);
    // ds without the term 2 dL / s of 2 log s, which is added where ds is used
    const V ds = fma(dm + dm, eta, dbeta - (dt + dt)) + dn * xi * xi;
    const V deta = fma(dm + dm, s, fma(dbeta, t, dn * at.delta_k));
    // eta = xi - xi^2
    const V dxi =
        fma(dm + dm, at.delta_k1 * xi - at.delta_k * one_minus_xi, fma((dn + dn) * s, xi, deta * (one_minus_xi - xi)));
    // s = h / w,  xi = (x - x_k) / w
    const V dx = dxi * at.per_w;
    const V dh = fma(dz, n_per_beta, fma(ds, at.per_w, twice_dL / at.h));
    const V dw = -(fma(ds, s, fma(dxi, xi, twice_dL)) * at.per_w);

    // A width is min_w + share_k, where share_k is sum_of_shares times p_k and p a softmax of u. So
    // du_k = share_k (d_k - sum_i p_i d_i), where d_i is the derivative by width i: dw for the point's bin, -dx for
    // each bin below, as it moves the lower knot, and 0 above. Heights likewise, with dh and dz.
    V widths_below = 0, heights_below = 0, width_here = 0, height_here = 0;
    for_each_bin(0, [&](Index k) __attribute__((always_inline)) {
      const Mask below = at.k > V(k), here = at.k == V(k);
      const V width = V::load(cache.theta[k]), height = V::load(cache.theta[height_column(k)]);
      widths_below = V::select(below, widths_below + width, widths_below);
      heights_below = V::select(below, heights_below + height, heights_below);
      width_here = V::select(here, width, width_here);
      height_here = V::select(here, height, height_here);
    });
    const V mean_w = fma(dw, width_here, -(dx * widths_below)) * V(1 / sum_of_shares(min_w_));
    const V mean_h = fma(dh, height_here, dz * heights_below) * V(1 / sum_of_shares(min_h_));
    const V dw_below = -(dx + mean_w), dw_here = dw - mean_w;
    const V dh_below = dz - mean_h, dh_here = dh - mean_h;
    // A point on the tails has no bin: its parameters receive nothing.
    const Mask inside = at.k >= V(0);
    const V dw_above = V::select(inside, -mean_w, V(0)), dh_above = V::select(inside, -mean_h, V(0));
    const V dtheta_k = ddelta_k * at.delta_k_by_theta, dtheta_k1 = ddelta_k1 * at.delta_k1_by_theta;
    V as_upper_knot = 0;  // what knot k receives as the upper end of bin k - 1
    for_each_bin(0, [&](Index k) __attribute__((always_inline)) {
      const Mask below = at.k > V(k), here = at.k == V(k);
      V du_w = V::select(below, dw_below, V::select(here, dw_here, dw_above));
      V du_h = V::select(below, dh_below, V::select(here, dh_here, dh_above));
      du_w = du_w * V::load(cache.theta[k]);
      du_h = du_h * V::load(cache.theta[height_column(k)]);
      if (clips_) {
        du_w = du_w * V::load(bound_slope(cache.saved, k));
        du_h = du_h * V::load(bound_slope(cache.saved, height_column(k)));
      }
      du_w.store(dtheta[k]);
      du_h.store(dtheta[height_column(k)]);
      if (k >= kFirstKnot) V::select(here, dtheta_k, as_upper_knot).store(dtheta[delta_column(k)]);
      as_upper_knot = V::select(here, dtheta_k1, V(0));
    });
    if constexpr (kDomain == Domain::box) as_upper_knot.store(dtheta[delta_column(bins())]);
    if constexpr (kDomain == Domain::circle) {
      (V::load(dtheta[delta_column(0)]) + as_upper_knot).store(dtheta[delta_column(0)]);
      dz.store(dtheta[rotation_column()]);
    }
    return dx;
  }

  Index bins_;
  bool clips_;
  Scalar bound_, min_w_, min_h_, min_delta_, delta_offset_, inverse_clip_;
};

// kBins: the number of bins if it is compiled in for splines on the line, else 0.
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

  void prepare(Domain domain, Index padded, FeatureCache<Scalar> cache) const override {
    with(domain, [&](const auto& kernel) {
      for (Index row = 0; row < padded; row += Vec<Scalar>::kWidth) kernel.prepare(cache.from_row(row));
    });
  }

  void map(Direction direction, Domain domain, Index padded, FeatureCache<Scalar> cache, Scalar* state,
           double* log_det) const override {
    with(domain, [&](const auto& kernel) { map_column(kernel, direction, padded, cache, state, log_det); });
  }

  void vjp(Direction direction, Domain domain, Index padded, FeatureCache<const Scalar> cache, const Scalar* dlog_det,
           Scalar* dstate, Columns<Scalar> dtheta) const override {
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

template <class Scalar>
std::unique_ptr<Transform<Scalar>> make_rational_quadratic(const Json& description) {
  json::expect_names(description, {"kind", "bins", "bound", "min_width", "min_height", "min_slope", "scheme"});
  SplineScheme scheme = SplineScheme::floor;
  if (description.contains("scheme")) {
    const auto name = json::string_member(description, "scheme");
    if (name == "clip")
      scheme = SplineScheme::clip;
    else if (name != "floor")
      throw std::invalid_argument("unknown scheme " + json::quote(name));
  }
  const SplineOptions options{json::integer_member(description, "bins", limits::kBins),
                              json::number_member(description, "bound", limits::kBound),
                              json::number_member(description, "min_width", limits::kFraction),
                              json::number_member(description, "min_height", limits::kFraction),
                              json::number_member(description, "min_slope", limits::kFraction),
                              scheme};
  switch (options.bins) {
    case 4:
      return std::make_unique<RationalQuadratic<Scalar, 4>>(options);
    case 8:
      return std::make_unique<RationalQuadratic<Scalar, 8>>(options);
    case 16:
      return std::make_unique<RationalQuadratic<Scalar, 16>>(options);
    default:
      return std::make_unique<RationalQuadratic<Scalar, 0>>(options);
  }
}

}  // namespace pushforward
