// Versions of drivers as their vendors and clients write them: "v2.7.1", "2.37.0.250724".
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace tandem::fleet {

// Numbers between dots. Compared number by number, so that 2.7 is older than 2.23; missing ones
// count as 0, so that 2.23 is 2.23.0. What follows behind '-' or '+' (a build's name) is kept out
// of the comparison.
class DriverVersion {
 public:
  // Errors: kInvalidArgument for anything else than up to 8 numbers with an optional leading v.
  static Result<DriverVersion> Parse(std::string_view text);

  std::string ToString() const;  // "2.7.1"
  std::strong_ordering operator<=>(const DriverVersion& other) const;
  bool operator==(const DriverVersion& other) const { return (*this <=> other) == 0; }

 private:
  std::vector<uint32_t> numbers_;
};

}  // namespace tandem::fleet
