// Which files of a repository make up the model in a given quantisation. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace tandem::fleet {

// One model in one quantisation: a file, or all parts of a split one.
struct GgufChoice {
  std::string quant;  // the label as the file name spells it, in capitals; may be empty
  std::vector<std::string> paths;  // within the repository, the first part first
};

// The models among a repository's file paths, in the order in which they come. Projectors (mmproj*)
// and calibration data (imatrix*) are none. A split model of which a part is missing is left out.
std::vector<GgufChoice> ListGgufChoices(const std::vector<std::string>& paths);

// Picks by label, ignoring case; without one Q4_K_M, then Q4_0, then the first.
// Errors: kNotFound (param "model") when the repository holds no GGUF, or not this quantisation;
// the
//   message lists what it holds.
Result<GgufChoice> ChooseGguf(const std::vector<std::string>& paths, std::string_view quant);

// The quantisation in a file name: "Q4_K_M" for "x-Q4_K_M.gguf", "x.q4_k_m-00001-of-00002.gguf";
// "UD-Q4_K_XL" keeps its prefix; empty where there is none.
std::string QuantLabel(std::string_view file_name);

}  // namespace tandem::fleet
