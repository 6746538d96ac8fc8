// The count of what was checked and what failed.
#pragma once

#include <cstdio>
#include <string>

inline int checks = 0;
inline int failures = 0;

inline void expect(bool holds, const std::string& where, const char* law) {
  ++checks;
  if (holds) return;
  ++failures;
  std::printf("%s: %s\n", where.c_str(), law);
}

// To be returned by main.
inline int report() {
  std::printf("%d checks, %d failures\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
