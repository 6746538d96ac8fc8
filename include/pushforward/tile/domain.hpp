// The set of a feature's values inside the layers.
#pragma once

namespace pushforward {

// line: all real numbers. box: [-1, 1]. circle: [-pi, pi], whose ends are one point.
enum class Domain { line, box, circle };

inline constexpr double kPi = 3.14159265358979323846;

}  // namespace pushforward
