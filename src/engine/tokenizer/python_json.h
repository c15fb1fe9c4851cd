// JSON spelled the way that Python's json.dumps(ensure_ascii=False) and Jinja's tojson in
// transformers spell it: ", " and ": " between, non-ASCII kept, keys in their order. Models saw
// their tools in this spelling.
#pragma once

#include <string>
#include <string_view>

#include <boost/json/fwd.hpp>

#include "base/error.h"

namespace tandem::tokenizer {

// Re-spells one JSON value. Floats become Python's shortest repr ("1.0", "1e-07"). Confessed:
// integers beyond 64 bits go through a double.
// Errors: kInvalidArgument where `json` is not JSON or nested deeper than 32.
Result<std::string> PythonJson(std::string_view json);

void AppendPythonJson(const boost::json::value& value, std::string* out);
void AppendPythonJsonString(std::string_view text, std::string* out);

}  // namespace tandem::tokenizer
