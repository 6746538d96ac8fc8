// Everything: Flow, its files, and Adam.
#pragma once

#include "pushforward/adam.hpp"
#include "pushforward/error.hpp"
#include "pushforward/flow.hpp"
