#include "engine/tokenizer/continuation.h"

#include <algorithm>

#include "engine/tokenizer/pretokenizer.h"

namespace tandem::tokenizer {
namespace {

// Each costs a batch step, so that a text without borders (a number of a thousand digits, a line of
// Chinese) must not give back all of itself.
constexpr size_t kMaxGivenBack = 32;
constexpr size_t kOpenPieces = 2;

// Where the pieces begin that more text could change. "don" + "'" + "t" is one piece, of which the
// first two were two: so the last two are open, and no more.
size_t OpenFrom(VocabularyKind kind, std::string_view text) {
  const std::vector<std::string_view> pieces = Pretokenize(kind, text);
  if (pieces.size() <= kOpenPieces) return 0;
  return static_cast<size_t>(pieces[pieces.size() - kOpenPieces].data() - text.data());
}

}  // namespace

Continuation PlanContinuation(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> ids = tokenizer.Encode(text, SpecialTokens::kParse);
  if (std::ranges::any_of(ids, [&](int32_t id) { return tokenizer.IsControl(id); })) {
    ids = tokenizer.Encode(text, SpecialTokens::kIgnore);
  }
  // Tokens spell the text up to where normalisation or a flag of an added token changed it.
  std::vector<size_t> ends;
  size_t end = 0;
  for (int32_t id : ids) {
    const std::string_view bytes = tokenizer.TokenBytes(id);
    if (!text.substr(end).starts_with(bytes)) break;
    end += bytes.size();
    ends.push_back(end);
  }
  const size_t open_from = OpenFrom(tokenizer.kind(), text);
  size_t n_kept = ends.size();
  const size_t n_at_least = ids.size() - std::min(ids.size(), kMaxGivenBack);
  while (n_kept > 0 && ends[n_kept - 1] > open_from && n_kept > n_at_least) --n_kept;
  ids.resize(n_kept);
  const size_t n_bytes = n_kept > 0 ? ends[n_kept - 1] : 0;
  return {.token_ids = std::move(ids), .rest = std::string(text.substr(n_bytes))};
}

bool FitsContinuation(const Tokenizer& tokenizer, int32_t id, std::string_view rest) {
  const std::string_view bytes = tokenizer.TokenBytes(id);
  if (bytes.empty() || bytes.front() != rest.front()) return false;
  return (rest.starts_with(bytes) || bytes.starts_with(rest)) && tokenizer.IsUsable(id) &&
         !tokenizer.IsControl(id) && !tokenizer.IsEndOfGeneration(id);
}

}  // namespace tandem::tokenizer
