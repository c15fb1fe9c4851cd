#include "gateway/relay/text_detectors.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/utf8.h"

namespace tandem::gateway::relay {
namespace {

constexpr uint32_t kMaxLetters = 12;
constexpr uint32_t kMaxRun = 64;
// "...", "```" and "---" are nothing; of more, the rest waits for the end of the run.
constexpr uint32_t kFreeCopies = 3;

constexpr bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

uint32_t HashOf(std::string_view bytes, uint32_t hash = 2166136261) {
  for (const char c : bytes) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619;  // FNV-1a
  return hash;
}

// 0 stands for "no unit".
uint32_t KeyOf(uint32_t hash) { return hash == 0 ? 1 : hash; }

// By distance p, at kMaxPeriod - p: how long a run at that distance has to be.
constexpr auto kRunsNeeded = [] {
  std::array<int32_t, PeriodTracker::kMaxPeriod> needed{};
  for (int p = 1; p <= PeriodTracker::kMaxPeriod; ++p) {
    needed[static_cast<size_t>(PeriodTracker::kMaxPeriod - p)] =
        std::max((PeriodTracker::kMinCopies - 1) * p, PeriodTracker::kMinUnits - p);
  }
  return needed;
}();

}  // namespace

void PeriodTracker::Push(uint32_t key, uint32_t begin) {
  const size_t at = window();
  const uint32_t* before = keys_.data() + at;
  uint32_t from = kNone;
  uint32_t found = 0;
  for (size_t j = 0; j < kMaxPeriod; ++j) {
    const bool equal = before[j] == key;
    runs_[j] = equal ? runs_[j] + 1 : 0;
    run_begins_[j] = runs_[j] == 1 ? begin : run_begins_[j];
    found |= runs_[j] >= kRunsNeeded[j] ? 1U : 0U;
    const bool counts = runs_[j] >= (j >= kMaxPeriod - kNear ? 1 : 2);
    from = std::min(from, counts ? run_begins_[j] : kNone);
  }
  may_be_period_ = found != 0;
  suspicious_from_ = from;
  keys_[at] = key;
  keys_[at + kMaxPeriod] = key;
  ++n_units_;
}

uint32_t PeriodTracker::SuspiciousWith(const std::array<bool, kMaxPeriod>& matches,
                                       uint32_t begin) const {
  uint32_t from = kNone;
  for (size_t j = 0; j < kMaxPeriod; ++j) {
    if (!matches[j]) continue;
    if (runs_[j] > 0) {
      from = std::min(from, run_begins_[j]);
    } else if (j >= kMaxPeriod - kNear) {
      from = std::min(from, begin);
    }
  }
  return from;
}

RepetitionDetector::Kind RepetitionDetector::KindOf(char32_t c, bool* letter) {
  *letter = false;
  if (c < 0x80) {
    if (c == U' ') return Kind::kSpaces;
    *letter = (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z');
    return *letter || (c >= U'0' && c <= U'9') || c == U'_' ? Kind::kWord : Kind::kRun;
  }
  // Scripts that put spaces between words: up to Sinhala, Georgian to Mongolian, the additions to
  // Latin and Greek (Vietnamese), Hangul.
  *letter = true;
  const bool spaced = (c >= 0xC0 && c < 0x0E00) || (c >= 0x10A0 && c < 0x1780) ||
                      (c >= 0x1E00 && c < 0x2000) || (c >= 0xAC00 && c < 0xD7B0);
  if (spaced) return Kind::kWord;
  // Latin-1 signs, general punctuation to symbols and arrows, CJK punctuation, full-width forms,
  // emoji.
  *letter = !(c < 0xC0 || (c >= 0x2000 && c < 0x2E80) || (c >= 0x3000 && c < 0x3040) ||
              (c >= 0xD800 && c < 0xF900) || (c >= 0xFE00 && c < 0xFF66) ||
              (c >= 0x1F000 && c < 0x20000));
  return Kind::kSingle;
}

std::optional<Finding> RepetitionDetector::Push(std::string_view text) {
  if (text.empty()) return std::nullopt;
  const uint32_t begin = n_bytes_;
  finding_.reset();
  PushUnits(text);
  pieces_.Push(KeyOf(HashOf(text)), begin);

  suspicious_from_ = std::min(n_bytes_, SuspiciousUnits());
  const uint32_t pieces_from = pieces_.suspicious_from();
  if (pieces_from != begin || !std::ranges::all_of(text, IsSpace)) {
    suspicious_from_ = std::min(suspicious_from_, pieces_from);
  }
  if (n_same_ > kFreeCopies) suspicious_from_ = std::min(suspicious_from_, same_from_);
  return finding_;
}

void RepetitionDetector::Restart(std::string_view text) {
  *this = RepetitionDetector();
  PushUnits(text);
  finding_.reset();
  suspicious_from_ = n_bytes_;
}

void RepetitionDetector::PushUnits(std::string_view text) {
  while (!text.empty()) {
    const utf8::Decoded decoded = utf8::DecodeOne(text);
    PushCodePoint(decoded.code_point, text.substr(0, decoded.length));
    text.remove_prefix(decoded.length);
  }
}

void RepetitionDetector::PushCodePoint(char32_t code_point, std::string_view bytes) {
  bool letter = false;
  const Kind kind = KindOf(code_point, &letter);
  const bool same = code_point == last_code_point_;
  bool goes_on = false;
  switch (kind) {
    case Kind::kWord:
      // One space belongs to the word behind it.
      goes_on = (open_.kind == Kind::kWord && open_.n_code_points <= kMaxLetters) ||
                (open_.kind == Kind::kSpaces && open_.n_bytes == 1);
      break;
    case Kind::kSpaces:
      goes_on = open_.kind == kind && open_.n_code_points < kMaxRun;
      break;
    case Kind::kRun:
      goes_on = open_.kind == kind && same && open_.n_code_points < kMaxRun;
      break;
    case Kind::kSingle:
    case Kind::kNothing:
      break;
  }
  if (!goes_on) {
    CloseUnit();
    open_ = Unit{.begin = n_bytes_, .hash = HashOf({})};
  }
  open_.kind = kind;
  open_.letters = open_.letters || letter;
  open_.hash = HashOf(bytes, open_.hash);
  for (const char c : bytes) {
    if (open_.n_bytes < 8) {
      open_.head |= uint64_t{static_cast<uint8_t>(c)} << (8 * open_.n_bytes);
    }
    ++open_.n_bytes;
  }
  ++open_.n_code_points;

  n_same_ = same ? n_same_ + 1 : 1;
  if (n_same_ == kFreeCopies + 1) same_from_ = n_bytes_;
  last_code_point_ = code_point;
  n_bytes_ += static_cast<uint32_t>(bytes.size());
  if (kind == Kind::kSingle) CloseUnit();
}

void RepetitionDetector::CloseUnit() {
  if (open_.kind == Kind::kNothing) return;
  const size_t at = units_.window();
  units_.Push(KeyOf(open_.hash), open_.begin);
  for (const size_t slot : {at, at + PeriodTracker::kMaxPeriod}) {
    heads_[slot] = open_.head;
    letters_[slot] = open_.letters;
  }
  open_ = Unit{};
  if (units_.may_be_period() && !finding_) FindPeriod();
}

void RepetitionDetector::FindPeriod() {
  // The window now ends with the last unit.
  const bool* end = letters_.data() + units_.window() + PeriodTracker::kMaxPeriod;
  for (int p = 1; p <= PeriodTracker::kMaxPeriod; ++p) {
    const int32_t tail = units_.run(p) + p;
    const bool letters = std::any_of(end - p, end, [](bool has) { return has; });
    const int32_t least = letters ? PeriodTracker::kMinUnits : kMinUnitsWithoutLetters;
    if (tail < std::max(PeriodTracker::kMinCopies * p, least)) continue;
    finding_ = Finding{
        .check = "tail_period",
        .figure = fmt::format("the last {} words or characters repeat a cycle of {}", tail, p)};
    return;
  }
}

// Where the run at the end begins, seen over whole units and the one that may go on; kNone:
// nowhere.
uint32_t RepetitionDetector::SuspiciousUnits() const {
  if (open_.kind == Kind::kNothing) return units_.suspicious_from();
  // Of a longer unit the first 8 bytes speak, until it is complete.
  const uint32_t n_head = std::min<uint32_t>(open_.n_bytes, 8);
  const uint64_t mask = n_head == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * n_head)) - 1;
  const uint64_t* heads = heads_.data() + units_.window();
  std::array<bool, PeriodTracker::kMaxPeriod> matches;
  bool any = false;
  for (size_t j = 0; j < PeriodTracker::kMaxPeriod; ++j) {
    matches[j] = ((heads[j] ^ open_.head) & mask) == 0;
    any |= matches[j];
  }
  if (!any) return PeriodTracker::kNone;
  const uint32_t from = units_.SuspiciousWith(matches, open_.begin);
  const bool only_spaces = open_.kind != Kind::kWord && open_.kind != Kind::kSingle &&
                           IsSpace(static_cast<char>(open_.head & 0xFF));
  return only_spaces && from == open_.begin ? PeriodTracker::kNone : from;
}

}  // namespace tandem::gateway::relay
