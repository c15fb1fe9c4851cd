#include "gateway/relay/text_detectors.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/utf8.h"

namespace tandem::gateway::relay {
namespace {

constexpr uint32_t kMaxLetters = 12;
constexpr uint32_t kMaxDigits = 32;
constexpr uint32_t kMaxRun = 64;
// "...", "```" and "---" are nothing; of more, the rest waits for the end of the run.
constexpr uint32_t kFreeCopies = 3;

enum class CharacterClass : uint8_t { kOther, kDigit, kLetter };

// What of ASCII makes words: letters; digits and "_".
constexpr auto kAscii = [] {
  std::array<CharacterClass, 256> classes{};
  for (size_t c = 'a'; c <= 'z'; ++c) classes[c] = classes[c - 'a' + 'A'] = CharacterClass::kLetter;
  for (size_t c = '0'; c <= '9'; ++c) classes[c] = CharacterClass::kDigit;
  classes['_'] = CharacterClass::kDigit;
  return classes;
}();

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

namespace {

using Periods = PeriodTracker::Periods;

// Which of the 256 numbers at `window` are `value`: bit i for number i. Comparisons of 16 at a time
// and their bits are a few vector instructions on every processor.
template <typename T>
Periods EqualTo(const T* window, T value) {
  using Lanes __attribute__((ext_vector_type(16))) = T;
  using Bits __attribute__((ext_vector_type(16))) = bool;
  Periods equal;
  for (uint64_t& word : equal.words) {
    for (int part = 0; part < 4; ++part, window += 16) {
      Lanes lanes;
      std::memcpy(&lanes, window, sizeof(lanes));
      const Bits bits = __builtin_convertvector(lanes == Lanes(value), Bits);
      word |= uint64_t{std::bit_cast<uint16_t>(bits)} << (16 * part);
    }
  }
  return equal;
}

// Without the periods that reach to before the first of `n_before` units.
Periods WithoutMissing(Periods periods, int32_t n_before) {
  int32_t missing = PeriodTracker::kMaxPeriod - n_before;
  for (uint64_t& word : periods.words) {
    if (missing <= 0) break;
    word &= missing >= 64 ? 0 : ~uint64_t{0} << missing;
    missing -= 64;
  }
  return periods;
}

Periods Both(const Periods& a, const Periods& b) {
  Periods both;
  for (size_t w = 0; w < both.words.size(); ++w) both.words[w] = a.words[w] & b.words[w];
  return both;
}

Periods Without(const Periods& a, const Periods& b) {
  Periods rest;
  for (size_t w = 0; w < rest.words.size(); ++w) rest.words[w] = a.words[w] & ~b.words[w];
  return rest;
}

// Of periods from 1 to `longest`, which is kShort or kMaxPeriod.
Periods UpTo(Periods periods, int32_t longest) {
  static_assert(PeriodTracker::kShort == 64);
  if (longest == PeriodTracker::kShort) std::fill_n(periods.words.begin(), 3, 0);
  return periods;
}

}  // namespace

void PeriodTracker::Push(uint32_t key, uint32_t begin, bool boundary) {
  const int32_t unit = ++n_units_;
  const size_t slot = static_cast<size_t>(unit) % kMaxPeriod;
  const Periods now = WithoutMissing(EqualTo(keys_.data() + slot, key), unit - 1);
  keys_[slot] = keys_[slot + kMaxPeriod] = key;
  recent_[static_cast<size_t>(unit) % recent_.size()] = {begin, boundary};

  const Periods long_now = Both(matching_[kLong - 2], now);
  Without(long_now, long_).ForEach([&](int32_t period) {
    const Unit& first = UnitBack(kLong - 1);
    starts_[static_cast<size_t>(period)] = {unit - kLong + 1, first.begin, first.boundary};
    return false;
  });
  long_ = long_now;
  for (size_t i = matching_.size() - 1; i > 0; --i) matching_[i] = Both(matching_[i - 1], now);
  matching_[0] = now;
}

Periods PeriodTracker::RunsOf(int32_t length, int32_t longest) const {
  const auto at = static_cast<size_t>(length);
  const Periods& longer = at < matching_.size() ? matching_[at] : long_;
  return UpTo(Without(matching_[at - 1], longer), longest);
}

std::vector<PeriodTracker::Run> PeriodTracker::runs() const {
  std::vector<Run> runs;
  matching_[0].ForEach([&](int32_t period) {
    const auto has = [&](const Periods& periods) {
      const auto bit = static_cast<uint32_t>(kMaxPeriod - period);
      return ((periods.words[bit / 64] >> (bit % 64)) & 1) != 0;
    };
    if (has(long_)) {
      runs.push_back(LongRun(period));
      return false;
    }
    int32_t length = 1;
    while (length + 1 < kLong && has(matching_[static_cast<size_t>(length)])) ++length;
    const Unit& first = UnitBack(length - 1);
    runs.push_back({period, length, first.begin, first.boundary});
    return false;
  });
  return runs;
}

uint32_t PeriodTracker::SuspiciousFrom() const {
  uint32_t from = kNone;
  ForEachLongRun([&](const Run& run) {
    from = std::min(from, run.begin);
    return false;
  });
  for (int32_t length = std::min(kLong - 1, n_units_); length > 0; --length) {
    const Unit& first = UnitBack(length - 1);
    if (first.begin >= from) break;  // shorter runs begin later
    if (RunsOf(length, first.boundary ? kMaxPeriod : kShort).any()) from = first.begin;
  }
  return from;
}

RepetitionDetector::Kind RepetitionDetector::KindOf(char32_t c, bool* letter) {
  *letter = false;
  if (c < 0x80) {
    if (c == U' ') return Kind::kSpaces;
    *letter = kAscii[c] == CharacterClass::kLetter;
    return kAscii[c] != CharacterClass::kOther ? Kind::kWord : Kind::kRun;
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
    size_t n = PushWordCharacters(text);
    if (n == 0) {
      const utf8::Decoded decoded = utf8::DecodeOne(text);
      n = decoded.length;
      PushCodePoint(decoded.code_point, text.substr(0, n));
    }
    text.remove_prefix(n);
  }
}

// The same as PushCodePoint for each of the ASCII characters at the front that go on with the open
// word, which most of a text are. Returns their number.
size_t RepetitionDetector::PushWordCharacters(std::string_view text) {
  if (open_.kind != Kind::kWord) return 0;
  Unit word = open_;
  size_t n = 0;
  for (; n < text.size(); ++n) {
    const auto c = static_cast<unsigned char>(text[n]);
    const CharacterClass character = kAscii[c];
    if (character == CharacterClass::kOther) break;
    const bool letters = word.letters || character == CharacterClass::kLetter;
    if (word.n_code_points > (letters ? kMaxLetters : kMaxDigits)) break;
    word.letters = letters;
    word.hash = (word.hash ^ c) * 16777619;
    if (word.n_key_bytes < 8) word.head |= uint64_t{c} << (8 * word.n_key_bytes);
    ++word.n_key_bytes;
    ++word.n_code_points;
    n_same_ = c == last_code_point_ ? n_same_ + 1 : 1;
    if (n_same_ == kFreeCopies + 1) same_from_ = n_bytes_ + static_cast<uint32_t>(n);
    last_code_point_ = c;
  }
  open_ = word;
  n_bytes_ += static_cast<uint32_t>(n);
  return n;
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
  first_bytes_[slot] = first_bytes_[slot + kWindow] = static_cast<uint8_t>(open_.head);
  open_ = Unit{};
  if (!finding_) FindPeriod();
}

void RepetitionDetector::FindPeriod() {
  units_.ForEachLongRun([&](const PeriodTracker::Run& run) {
    const int32_t tail = run.length + run.period;
    if (tail < std::max(kMinCopies * run.period, kMinUnits)) return false;
    bool letters = false;
    for (int32_t i = 0; i < run.period; ++i) {
      letters |= letters_[static_cast<size_t>(units_.n_units() - i) % kWindow];
    }
    if (!letters && tail < kMinUnitsWithoutLetters) return false;
    finding_ = Finding{.check = "tail_period",
                       .figure = fmt::format("the last {} words or characters repeat a cycle of {}",
                                             tail, run.period)};
    return true;
  });
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
  if (const uint32_t from = units_.SuspiciousFromIf(begins_like); from != PeriodTracker::kNone) {
    return from;
  }
  // A run that begins with this unit; white space alone says nothing.
  const bool only_spaces =
      open_.kind != Kind::kWord && IsSpace(static_cast<char>(open_.head & 0xFF));
  if (only_spaces) return PeriodTracker::kNone;
  const auto slot = static_cast<size_t>(next) % kWindow;
  Periods candidates = WithoutMissing(
      EqualTo(first_bytes_.data() + slot, static_cast<uint8_t>(open_.head)), units_.n_units());
  if (!open_.boundary) {
    candidates = UpTo(candidates, PeriodTracker::kShort);
  } else {
    candidates.words[0] &= ~uint64_t{1};  // what begins at the longest period could not go on
  }
  uint32_t from = PeriodTracker::kNone;
  candidates.ForEach([&](int32_t period) {
    if (begins_like(period)) from = open_.begin;
    return from != PeriodTracker::kNone;
  });
  return from;
}

}  // namespace tandem::gateway::relay
