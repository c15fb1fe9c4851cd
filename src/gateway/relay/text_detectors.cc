#include "gateway/relay/text_detectors.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/utf8.h"

namespace tandem::gateway::relay {
namespace {

constexpr uint32_t kMaxLetters = 12;
constexpr uint32_t kMaxDigits = 32;
constexpr uint32_t kMaxRun = 64;
// "...", "```" and "---" are nothing; of more, the rest waits for the end of the run.
constexpr uint32_t kFreeCopies = 3;

constexpr bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

uint32_t HashOf(std::string_view bytes, uint32_t hash = 2166136261) {
  for (const char c : bytes) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619;  // FNV-1a
  return hash;
}

// What is behind one of these is the beginning of something.
constexpr bool EndsSentence(char32_t c) {
  return c == 0 || c == U'.' || c == U'!' || c == U'?' || c == U'\n' || c == U'。' || c == U'！' ||
         c == U'？' || c == U'।';
}

}  // namespace

void PeriodTracker::Push(uint32_t key, uint32_t begin, bool boundary) {
  const int32_t unit = ++n_units_;
  int32_t& last = last_[(key ^ (key >> 16)) % kBuckets];
  runs_.clear();
  for (int32_t before = last; before > 0 && unit - before <= kMaxPeriod;
       before = previous_[Slot(before)]) {
    if (keys_[Slot(before)] != key) continue;
    const auto period = static_cast<size_t>(unit - before);
    Run& run = by_period_[period];
    if (up_to_[period] == unit - 1) {
      ++run.length;
    } else {
      run = Run{unit - before, 1, begin, boundary};
    }
    up_to_[period] = unit;
    runs_.push_back(run);
  }
  keys_[Slot(unit)] = key;
  previous_[Slot(unit)] = last;
  last = unit;
}

uint32_t PeriodTracker::SuspiciousFrom() const {
  uint32_t from = kNone;
  for (const Run& run : runs_) {
    if (IsSuspicious(run.period, run.length, run.boundary)) from = std::min(from, run.begin);
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
  const bool boundary = EndsSentence(last_code_point_);
  finding_.reset();
  PushUnits(text);
  pieces_.Push(HashOf(text), begin, boundary);

  suspicious_from_ = std::min(n_bytes_, SuspiciousUnits());
  const uint32_t pieces_from = pieces_.SuspiciousFrom();
  // White space alone says nothing.
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
      goes_on = (open_.kind == Kind::kWord &&
                 open_.n_code_points <= (open_.letters || letter ? kMaxLetters : kMaxDigits)) ||
                (open_.kind == Kind::kSpaces && open_.n_code_points == 1);
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
    open_ = Unit{.begin = n_bytes_, .boundary = EndsSentence(last_code_point_)};
  } else if (kind == Kind::kWord && open_.kind == Kind::kSpaces) {
    open_.n_key_bytes = 0;
  }
  open_.kind = kind;
  open_.letters = open_.letters || letter;
  if (open_.n_key_bytes == 0) {
    open_.head = 0;
    open_.hash = HashOf({});
  }
  open_.hash = HashOf(bytes, open_.hash);
  for (const char c : bytes) {
    if (open_.n_key_bytes < 8) {
      open_.head |= uint64_t{static_cast<uint8_t>(c)} << (8 * open_.n_key_bytes);
    }
    ++open_.n_key_bytes;
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
  units_.Push(open_.hash, open_.begin, open_.boundary);
  const auto slot = static_cast<size_t>(units_.n_units()) % kWindow;
  heads_[slot] = open_.head;
  letters_[slot] = open_.letters;
  open_ = Unit{};
  if (!finding_) FindPeriod();
}

void RepetitionDetector::FindPeriod() {
  for (const PeriodTracker::Run& run : units_.runs()) {
    const int32_t tail = run.length + run.period;
    if (tail < std::max(kMinCopies * run.period, kMinUnits)) continue;
    bool letters = false;
    for (int32_t i = 0; i < run.period; ++i) {
      letters |= letters_[static_cast<size_t>(units_.n_units() - i) % kWindow];
    }
    if (!letters && tail < kMinUnitsWithoutLetters) continue;
    finding_ = Finding{.check = "tail_period",
                       .figure = fmt::format("the last {} words or characters repeat a cycle of {}",
                                             tail, run.period)};
    return;
  }
}

// Where the run at the end begins, seen over whole units and the one that may go on; kNone:
// nowhere.
uint32_t RepetitionDetector::SuspiciousUnits() const {
  if (open_.kind == Kind::kNothing) return units_.SuspiciousFrom();
  // Of a longer unit the first 8 bytes speak, until it is complete.
  const uint32_t n_head = std::min<uint32_t>(open_.n_key_bytes, 8);
  const uint64_t mask = n_head == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * n_head)) - 1;
  const int32_t next = units_.n_units() + 1;
  const auto begins_like = [&](int32_t period) {
    const uint64_t head = heads_[static_cast<size_t>(next - period) % kWindow];
    return ((head ^ open_.head) & mask) == 0;
  };
  uint32_t from = PeriodTracker::kNone;
  for (const PeriodTracker::Run& run : units_.runs()) {
    if (PeriodTracker::IsSuspicious(run.period, run.length + 1, run.boundary) &&
        begins_like(run.period)) {
      from = std::min(from, run.begin);
    }
  }
  if (from != PeriodTracker::kNone) return from;
  // A run that begins with this unit; white space alone says nothing.
  const bool only_spaces =
      open_.kind != Kind::kWord && IsSpace(static_cast<char>(open_.head & 0xFF));
  if (only_spaces) return PeriodTracker::kNone;
  const int32_t most = open_.boundary ? PeriodTracker::kMaxPeriod - 1 : PeriodTracker::kShort;
  for (int32_t period = 1; period <= std::min(most, units_.n_units()); ++period) {
    if (begins_like(period)) return open_.begin;
  }
  return PeriodTracker::kNone;
}

}  // namespace tandem::gateway::relay
