// The map between a bounded feature and where the layers work: h takes a point y there to the feature, x = h(y).
#pragma once

namespace pushforward {

// h, its inverse, and the derivatives that densities and adjoints need, in float64.
class Bijection {
 public:
  virtual ~Bijection() = default;

  virtual double value(double y) const = 0;      // h
  virtual double inverse(double x) const = 0;    // infinite on a bound that h reaches at infinity
  virtual double log_slope(double y) const = 0;  // log h'
  virtual double slope(double y) const = 0;      // h'
  virtual double bend(double y) const = 0;       // h'' / h' = (log h')'

  // h^-1 of the point at that distance from a bound that h reaches at infinity: more exact than through x, which has
  // few digits there.
  virtual double above_low(double distance) const = 0;
  virtual double below_high(double distance) const = 0;
  // The size of h' where h is x, without a transcendental function: at most 1.3 h', and not below h' / 40.
  virtual double rough_slope(double x) const = 0;

  // Whether the low and the high bound are y at infinity.
  virtual bool low_is_infinite() const = 0;
  virtual bool high_is_infinite() const = 0;
};

}  // namespace pushforward
