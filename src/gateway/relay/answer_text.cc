#include "gateway/relay/answer_text.h"

#include <algorithm>
#include <utility>

namespace tandem::gateway::relay {
namespace {

// What a detector needs to know of the text before a seam: a cycle of long words, twice.
constexpr size_t kRewindBytes = size_t{8} << 10;

constexpr bool StartsCodePoint(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

}  // namespace

AnswerText::AnswerText(Options options) : options_(std::move(options)) {
  for (const std::string& stop : options_.stop) {
    longest_stop_ = std::max(longest_stop_, stop.size());
  }
  // Not cleared as a whole: most of its tables is read only where it was written.
  if (options_.detect_repetition) {
    detector_ = std::make_unique_for_overwrite<RepetitionDetector>();
  }
  if (options_.json) json_.emplace();
  if (options_.tools) calls_.emplace();
}

AnswerText::Verdict AnswerText::Append(TextDelta piece) {
  const size_t begin = text_.size();
  text_ += piece.text;
  Verdict verdict = Verdict::kGoesOn;
  if (longest_stop_ > 0 && CutAtStop(begin)) verdict = Verdict::kComplete;

  if (calls_) calls_->Push(std::string_view(text_).substr(std::min(begin, text_.size())));
  if (json_ && begin < text_.size()) {
    const std::string_view news = std::string_view(text_).substr(begin);
    const size_t taken = json_->Push(news);
    // A call instead of the JSON text is an answer too; its first bytes must not count as broken.
    const bool call = calls_ && (calls_->any() || calls_->open_at());
    if (taken < news.size() && !call) {
      const bool behind = json_->behind_value();
      text_.resize(begin + taken);
      verdict = behind ? Verdict::kComplete : Verdict::kBrokenJson;
    }
  }
  if (!piece.logprobs.empty()) {
    if (logprobs_.empty() || logprobs_.back().end != text_.size()) {
      logprobs_.push_back({text_.size(), std::move(piece.logprobs)});
    } else {
      std::ranges::move(piece.logprobs, std::back_inserter(logprobs_.back().tokens));
    }
  }
  if (verdict != Verdict::kGoesOn || !detector_) return verdict;
  if (auto found = detector_->Push(piece.text)) {
    finding_ = *std::move(found);
    return Verdict::kRepeats;
  }
  return Verdict::kGoesOn;
}

// Cuts the text before the first stop string that ends behind `from`.
bool AnswerText::CutAtStop(size_t from) {
  const size_t begin = std::max(n_shown_, from > longest_stop_ ? from - longest_stop_ : 0);
  size_t cut = std::string::npos;
  for (const std::string& stop : options_.stop) cut = std::min(cut, text_.find(stop, begin));
  if (cut == std::string::npos) return false;
  text_.resize(cut);
  return true;
}

// How many bytes at the end may be the beginning of a stop string.
size_t AnswerText::PartialStop() const {
  const std::string_view unshown = std::string_view(text_).substr(n_shown_);
  for (size_t n = std::min(longest_stop_, unshown.size()); n > 0; --n) {
    const std::string_view end = unshown.substr(unshown.size() - n);
    if (std::ranges::any_of(options_.stop, [&](std::string_view stop) {
          return stop.size() > n && stop.starts_with(end);
        })) {
      return n;
    }
  }
  return 0;
}

size_t AnswerText::FirstHeld() const {
  size_t end = text_.size();
  if (detector_) end -= std::min(end, detector_->suspicious_bytes());
  if (longest_stop_ > 0) end = std::min(end, text_.size() - PartialStop());
  if (calls_) end = std::min(end, calls_->open_at().value_or(end));
  if (json_ && json_applies()) end = std::min(end, text_.size() - json_->escape_bytes());
  // Stop strings and escapes are cut at any byte, code points never are.
  while (end > n_shown_ && end < text_.size() && !StartsCodePoint(text_[end])) --end;
  return std::max(end, n_shown_);
}

std::optional<TextDelta> AnswerText::Release() { return ShowUpTo(FirstHeld()); }

std::optional<TextDelta> AnswerText::ReleaseAll() { return ShowUpTo(text_.size()); }

std::optional<TextDelta> AnswerText::ShowUpTo(size_t end) {
  if (end == n_shown_ && logprobs_.empty()) return std::nullopt;
  TextDelta shown{.text = text_.substr(n_shown_, end - n_shown_), .logprobs = {}};
  n_shown_ = end;
  while (!logprobs_.empty() && logprobs_.front().end <= end) {
    std::ranges::move(logprobs_.front().tokens, std::back_inserter(shown.logprobs));
    logprobs_.pop_front();
  }
  if (shown.text.empty() && shown.logprobs.empty()) return std::nullopt;
  return shown;
}

void AnswerText::Rewind() {
  text_.resize(n_shown_);
  logprobs_.clear();
  const std::string_view text = text_;
  if (detector_) {
    size_t at = text.size() > kRewindBytes ? text.size() - kRewindBytes : 0;
    while (at > 0 && at < text.size() && !StartsCodePoint(text[at])) --at;
    detector_->Restart(text.substr(at));
  }
  if (json_) {
    json_.emplace();
    json_->Push(text);
  }
  if (calls_) {
    calls_.emplace();
    calls_->Push(text);
  }
}

std::function<bool(std::string_view)> AnswerText::Grammar() const {
  if (!json_ || !json_applies()) return nullptr;
  JsonState shown;
  shown.Push(std::string_view(text_).substr(0, n_shown_));
  return [shown](std::string_view news) { return JsonState(shown).Push(news) == news.size(); };
}

bool AnswerText::whole() const {
  if (!json_ || !json_applies()) return true;
  return json_->complete() || json_->behind_value();
}

}  // namespace tandem::gateway::relay
