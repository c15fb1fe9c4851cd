#include "fleet/fetch/gguf_choice.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include <fmt/ranges.h>

namespace tandem::fleet {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string Upper(std::string_view text) {
  std::string upper(text);
  std::ranges::transform(upper, upper.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  return upper;
}

std::string_view FileName(std::string_view path) { return path.substr(path.rfind('/') + 1); }

struct Part {
  int index = 1;
  int count = 1;
};

// Takes "-00001-of-00003" off the end of a stem (gguf's convention for split files).
std::optional<Part> TakePartSuffix(std::string_view& stem) {
  constexpr std::string_view kShape = "-00000-of-00000";
  if (stem.size() <= kShape.size()) return std::nullopt;
  const std::string_view suffix = stem.substr(stem.size() - kShape.size());
  Part part{.index = 0, .count = 0};
  for (size_t i = 0; i < kShape.size(); ++i) {
    if (kShape[i] != '0') {
      if (suffix[i] != kShape[i]) return std::nullopt;
      continue;
    }
    if (!IsDigit(suffix[i])) return std::nullopt;
    int& number = i < 6 ? part.index : part.count;
    number = number * 10 + (suffix[i] - '0');
  }
  if (part.index < 1 || part.index > part.count) return std::nullopt;
  stem.remove_suffix(kShape.size());
  return part;
}

// "Q4_K_M", "IQ4_NL", "TQ1_0", "MXFP4", "BF16", "F16", ...; `text` in capitals.
bool IsQuantLabel(std::string_view text) {
  if (text == "F16" || text == "BF16" || text == "F32" || text == "FP16" || text == "FP32" ||
      text.starts_with("MXFP4")) {
    return true;
  }
  if (text.starts_with("I") || text.starts_with("T")) text.remove_prefix(1);
  return text.size() >= 2 && text[0] == 'Q' && IsDigit(text[1]) &&
         (text.size() == 2 || text[2] == '_');
}

// A model's stem (no folder, no part suffix, no ".gguf") -> its label.
std::string LabelOfStem(std::string_view stem) {
  const std::string upper = Upper(stem);
  // Labels hold '_' themselves, so they are looked for behind each separator, the longest first.
  for (size_t at = 0; at < upper.size(); ++at) {
    if (at > 0 && upper[at - 1] != '-' && upper[at - 1] != '.' && upper[at - 1] != '_') continue;
    const std::string_view tail = std::string_view(upper).substr(at);
    if (tail.contains('-') || tail.contains('.') || !IsQuantLabel(tail)) continue;
    const std::string_view before = std::string_view(upper).substr(0, at);
    return before.ends_with("-UD-") ? "UD-" + std::string(tail) : std::string(tail);
  }
  return {};
}

struct Group {
  std::string label;
  int count = 1;
  std::map<int, std::string> parts;
};

bool IsModelFile(std::string_view path) {
  const std::string name = Upper(FileName(path));
  return name.ends_with(".GGUF") && !name.starts_with("MMPROJ") && !name.contains("IMATRIX");
}

}  // namespace

std::string QuantLabel(std::string_view file_name) {
  if (Upper(file_name).ends_with(".GGUF")) file_name.remove_suffix(5);
  (void)TakePartSuffix(file_name);
  return LabelOfStem(file_name);
}

std::vector<GgufChoice> ListGgufChoices(const std::vector<std::string>& paths) {
  std::vector<Group> groups;
  std::map<std::pair<std::string, int>, size_t> by_stem;  // (path without part suffix, parts)
  for (const std::string& path : paths) {
    if (!IsModelFile(path)) continue;
    std::string_view stem = std::string_view(path).substr(0, path.size() - 5);
    const Part part = TakePartSuffix(stem).value_or(Part{});
    const auto [at, is_new] = by_stem.try_emplace({std::string(stem), part.count}, groups.size());
    if (is_new) {
      groups.push_back({.label = LabelOfStem(FileName(stem)), .count = part.count, .parts = {}});
    }
    groups[at->second].parts.emplace(part.index, path);
  }
  std::vector<GgufChoice> choices;
  for (Group& group : groups) {
    if (group.parts.size() != static_cast<size_t>(group.count)) continue;
    GgufChoice choice{.quant = std::move(group.label), .paths = {}};
    for (auto& [index, path] : group.parts) choice.paths.push_back(std::move(path));
    choices.push_back(std::move(choice));
  }
  return choices;
}

Result<GgufChoice> ChooseGguf(const std::vector<std::string>& paths, std::string_view quant) {
  const std::vector<GgufChoice> choices = ListGgufChoices(paths);
  if (choices.empty()) {
    return std::unexpected(
        Error{ErrorCode::kNotFound, "the repository holds no whole GGUF model", "model"});
  }
  const auto by_label = [&](std::string_view label) -> const GgufChoice* {
    const auto found = std::ranges::find(choices, label, &GgufChoice::quant);
    return found != choices.end() ? &*found : nullptr;
  };
  if (quant.empty()) {
    for (const char* label : {"Q4_K_M", "Q4_0"}) {
      if (const GgufChoice* choice = by_label(label)) return *choice;
    }
    return choices.front();
  }
  if (const GgufChoice* choice = by_label(Upper(quant))) return *choice;
  std::vector<std::string> labels;
  for (const GgufChoice& choice : choices) {
    labels.push_back(choice.quant.empty() ? std::string(FileName(choice.paths.front()))
                                          : choice.quant);
  }
  return std::unexpected(Error{ErrorCode::kNotFound,
                               fmt::format("the repository has no quantisation '{}'; it has {}",
                                           quant, fmt::join(labels, ", ")),
                               "model"});
}

}  // namespace tandem::fleet
