#include "gateway/relay/overlap.h"

#include <algorithm>

namespace tandem::gateway::relay {
namespace {

constexpr size_t kAnchorWords = 6;
constexpr size_t kAnchorBytes = 64;

constexpr bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
constexpr bool IsWordByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}
constexpr bool StartsCodePoint(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

// A word, a sign or a character of a script without spaces can begin here.
bool MayBegin(std::string_view text, size_t at) {
  if (!StartsCodePoint(text[at]) || IsSpace(text[at])) return false;
  return at == 0 || !IsWordByte(text[at - 1]) || !IsWordByte(text[at]);
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

OverlapFilter::OverlapFilter(std::string_view said, std::string_view separator)
    : said_(said), separator_(separator), anchor_(said.size() - AnchorOf(said).size()) {
  decided_ = said_.empty();
}

void OverlapFilter::FindStarts(char first) {
  const size_t window = said_.size() > kWindowBytes ? said_.size() - kWindowBytes : 0;
  if (window > 0 && said_.front() == first) starts_.push_back(0);
  for (size_t at = window; at < said_.size(); ++at) {
    if (said_[at] == first && (at == 0 || MayBegin(said_, at))) starts_.push_back(at);
  }
}

// The continuation repeats said_ from `start` to its end.
bool OverlapFilter::Accepts(size_t start) const {
  const size_t length = said_.size() - start;
  if (start == 0 || start == anchor_ || length >= kMinOverlapBytes) return true;
  if (length < kMinWordLetters || n_spaces_ > 0) return false;
  return std::all_of(said_.begin() + static_cast<std::ptrdiff_t>(start), said_.end(), [](char c) {
    return IsWordByte(c) || !StartsCodePoint(c) || static_cast<unsigned char>(c) >= 0x80;
  });
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
    if (n_agreed_ == 0 && starts_.empty()) {
      if (IsSpace(c)) {
        ++n_spaces_;
        continue;
      }
      FindStarts(c);
    }
    const bool restarting = !starts_.empty() && starts_.front() == 0;
    std::erase_if(starts_, [&](size_t start) { return said_[start + n_agreed_] != c; });
    ++n_agreed_;
    if (restarting)
      longest_restart_ = starts_.empty() || starts_.front() != 0 ? n_agreed_ - 1 : n_agreed_;
    // At most one of them ends here, the last: the others began before it.
    if (!starts_.empty() && starts_.back() + n_agreed_ == said_.size()) {
      if (Accepts(starts_.back())) overlap_ = n_agreed_;
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

bool OverlapFilter::Decide(std::string* out) {
  decided_ = true;
  std::string_view rest = held_;
  if (overlap_ > 0) {
    rest.remove_prefix(n_spaces_ + overlap_);
  } else if (longest_restart_ >= kRestartBytes) {
    restarted_ = true;
    return false;
  } else if (n_spaces_ == 0) {
    if (!rest.empty()) out->append(separator_);
  } else if (said_.back() == ' ' && rest.front() == ' ') {
    rest.remove_prefix(1);
  }
  out->append(rest);
  held_.clear();
  return true;
}

}  // namespace tandem::gateway::relay
