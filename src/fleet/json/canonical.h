// One text for one JSON value, so that a signature over the text holds however the document was
// written down in between.
#pragma once

#include <string>

#include <boost/json/value.hpp>

#include "base/error.h"

namespace tandem::fleet {

// No blanks; members sorted by name; strings with the shortest escapes; numbers whole. This is RFC
// 8785 for what is allowed here: names of ASCII, whole numbers up to 2^53 in magnitude, so that
// readers which know doubles only see the same ones.
// Errors: kInvalidArgument, naming the member, for a fraction, a larger number, another name.
Result<std::string> CanonicalJson(const boost::json::value& value);

}  // namespace tandem::fleet
