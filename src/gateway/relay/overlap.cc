#include "gateway/relay/overlap.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "base/utf8.h"

namespace tandem::gateway::relay {
namespace {

constexpr size_t kAnchorWords = 6;
constexpr size_t kAnchorBytes = 64;

constexpr bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
constexpr bool IsWordByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}
constexpr bool StartsCodePoint(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

// Of a word; of other scripts than Latin every byte may be.
bool IsLetterByte(char c) { return IsWordByte(c) || static_cast<unsigned char>(c) >= 0x80; }

// A word, a sign or a character of a script without spaces can begin here.
bool MayBegin(std::string_view text, size_t at) {
  if (!StartsCodePoint(text[at]) || IsSpace(text[at])) return false;
  return at == 0 || !IsWordByte(text[at - 1]) || !IsWordByte(text[at]);
}

// Words of the script at the end have spaces between them: those up to Sinhala in Unicode's order,
// so not Thai, Chinese or Japanese.
bool EndsInSpacedScript(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && !StartsCodePoint(text[begin])) --begin;
  return utf8::DecodeOne(text.substr(begin)).code_point < 0x0E00;
}

// Where the last sentence or line begins, which may be a beginning without an end.
size_t LastSentence(std::string_view text) {
  constexpr std::array<std::string_view, 7> kEnds = {".", "!", "?", "\n", "。", "！", "？"};
  // What stands at the very end ends a sentence, and begins none.
  const std::string_view before = text.substr(0, text.size() - std::min<size_t>(text.size(), 1));
  size_t begin = 0;
  for (const std::string_view end : kEnds) {
    const size_t at = before.rfind(end);
    if (at != std::string_view::npos) begin = std::max(begin, at + end.size());
  }
  while (begin < text.size() && IsSpace(text[begin])) ++begin;
  return begin;
}

}  // namespace

std::string_view AnchorOf(std::string_view said) {
  size_t at = said.size();
  size_t n_words = 0;
  // The last position at which a word begins within the limits.
  for (size_t i = said.size(); i > 0 && said.size() - (i - 1) <= kAnchorBytes; --i) {
    if (!StartsCodePoint(said[i - 1])) continue;
    const bool begins = !IsSpace(said[i - 1]) && (i == 1 || IsSpace(said[i - 2]));
    if (begins) {
      at = i - 1;
      if (++n_words == kAnchorWords) break;
    } else if (n_words == 0 && !IsSpace(said[i - 1])) {
      at = i - 1;  // a script without spaces, or one long word
    }
  }
  return said.substr(at);
}

OverlapFilter::OverlapFilter(std::string_view said, Options options)
    : said_(said),
      options_(std::move(options)),
      anchor_(said.size() - AnchorOf(said).size()),
      sentence_(LastSentence(said)) {
  decided_ = said_.empty();
}

void OverlapFilter::FindStarts(char first) {
  const size_t window = said_.size() > kWindowBytes ? said_.size() - kWindowBytes : 0;
  if (window > 0 && said_.front() == first) starts_.push_back(0);
  for (size_t at = window; at < said_.size(); ++at) {
    if (said_[at] == first && (at == 0 || MayBegin(said_, at))) starts_.push_back(at);
  }
}

// Whether it is no chance that the continuation repeats said_ from `start` to its end.
bool OverlapFilter::Accepts(size_t start) const {
  const size_t length = said_.size() - start;
  if (start == 0 || start == anchor_ || length >= kMinOverlapBytes) return true;
  if (start == sentence_ && length >= kMinSentenceBytes) return true;
  if (length < kMinWordBytes || n_spaces_ > 0) return false;
  return std::all_of(said_.begin() + static_cast<std::ptrdiff_t>(start), said_.end(), IsLetterByte);
}

bool OverlapFilter::Push(std::string_view text, std::string* out) {
  if (restarted_) return false;
  if (decided_) {
    out->append(text);
    return true;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    held_ += c;
    if (n_agreed_ == 0) {
      if (IsSpace(c)) {
        ++n_spaces_;
        continue;
      }
      FindStarts(c);
    }
    const bool restarting = !starts_.empty() && starts_.front() == 0;
    std::erase_if(starts_, [&](size_t start) { return said_[start + n_agreed_] != c; });
    if (restarting && !starts_.empty() && starts_.front() == 0) n_restarted_ = n_agreed_ + 1;
    ++n_agreed_;
    // At most one of them ends here, the last: the others began before it.
    if (!starts_.empty() && starts_.back() + n_agreed_ == said_.size()) {
      (Accepts(starts_.back()) ? overlap_ : chance_overlap_) = n_agreed_;
      starts_.pop_back();
    }
    if (!starts_.empty()) continue;
    if (!Decide(out)) return false;
    out->append(text.substr(i + 1));
    return true;
  }
  return true;
}

void OverlapFilter::Finish(std::string* out) {
  if (decided_ || restarted_) return;
  // What was held is a stretch of said_ that does not reach its end: a repetition, unless it is
  // short enough to be new.
  if (overlap_ == 0 && n_agreed_ >= kRestartBytes) {
    decided_ = true;
    return;
  }
  Decide(out);
}

std::string_view OverlapFilter::Without(size_t overlap) const {
  std::string_view rest = held_;
  if (overlap > 0) {
    rest.remove_prefix(n_spaces_ + overlap);
  } else if (n_spaces_ > 0 && said_.back() == ' ' && rest.front() == ' ') {
    rest.remove_prefix(1);
  }
  return rest;
}

bool OverlapFilter::Decide(std::string* out) {
  decided_ = true;
  size_t overlap = overlap_;
  if (options_.fits) {
    for (const size_t candidate : {overlap_, size_t{0}, chance_overlap_}) {
      if (!options_.fits(Without(candidate))) continue;
      overlap = candidate;
      break;
    }
  }
  if (overlap == 0 && n_restarted_ >= kRestartBytes) {
    restarted_ = true;
    return false;
  }
  if (overlap == 0 && n_spaces_ == 0 && EndsInSpacedScript(said_)) out->append(options_.separator);
  out->append(Without(overlap));
  held_.clear();
  return true;
}

}  // namespace tandem::gateway::relay
