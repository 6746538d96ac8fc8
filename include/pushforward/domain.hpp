// Where a feature's values live while they go through the layers.
#pragma once

namespace pushforward {

// line: all real numbers. box: [-1, 1]. circle: [-pi, pi), the ends being one point.
enum class Domain { line, box, circle };

}  // namespace pushforward
