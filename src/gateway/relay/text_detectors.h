// Detectors for answers that have fallen into a loop, seen as text: what a cloud API streams has no
// token ids. They also say how much of the end may be the beginning of one, so that the relay can
// hold it back and a client never sees a copy.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::gateway::relay {

struct Finding {
  std::string check;   // "tail_period"
  std::string figure;  // "the last 96 words repeat a cycle of 12"
};

// Watches one answer. Thread: one.
class Detector {
 public:
  virtual ~Detector() = default;
  // `text` is the next piece, whole code points of UTF-8. What the answer has become with it.
  virtual std::optional<Finding> Push(std::string_view text) = 0;
  // How many bytes at the end repeat what stands before them, so far: what to hold back.
  virtual size_t suspicious_bytes() const = 0;
  // Forgets everything and takes `text` as the answer so far; the end of it is never suspicious.
  virtual void Restart(std::string_view text) = 0;
};

// Runs of equal units, at every distance up to kMaxPeriod.
// Cost: about 50 ns a unit whatever the text, since one pass over the window compares the new unit
// with all of it; runs of at least kLong units, which are rare, are kept one by one. 6 KiB.
class PeriodTracker {
 public:
  static constexpr int kMaxPeriod = 256;
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

  // A run at the end: this unit and those before it equal the ones `period` before them.
  struct Run {
    int32_t period = 0;
    int32_t length = 0;
    uint32_t begin = 0;     // offset of its first unit
    bool boundary = false;  // its first unit stands where a sentence or a line begins
  };

  // A set of periods: bit 256 - p, so that the bits lie as the window does.
  struct Periods {
    std::array<uint64_t, kMaxPeriod / 64> words{};

    bool any() const { return (words[0] | words[1] | words[2] | words[3]) != 0; }
    // Calls for each one, the shortest first, until a call gives true.
    template <typename Callback>
    void ForEach(Callback callback) const {
      for (size_t w = words.size(); w-- > 0;) {
        for (uint64_t rest = words[w]; rest != 0;) {
          const int high = 63 - std::countl_zero(rest);
          rest &= ~(uint64_t{1} << high);
          if (callback(kMaxPeriod - static_cast<int32_t>(64 * w) - high)) return;
        }
      }
    }
  };

  PeriodTracker() = default;

  // The next unit: `key` its fingerprint, `begin` its offset in the answer.
  void Push(uint32_t key, uint32_t begin, bool boundary);
  // All runs at the end, the nearest first. Allocates: for tests.
  std::vector<Run> runs() const;
  // The runs of at least kLong units, the nearest first, until a call gives true.
  template <typename Callback>
  void ForEachLongRun(Callback callback) const {
    long_.ForEach([&](int32_t period) { return callback(LongRun(period)); });
  }
  // Where the earliest one begins that may be a copy; kNone without one.
  uint32_t SuspiciousFrom() const;
  // The same, of the runs that another unit makes longer which goes on at the periods for which
  // `goes_on` gives true.
  template <typename GoesOn>
  uint32_t SuspiciousFromIf(GoesOn goes_on) const {
    uint32_t from = kNone;
    ForEachLongRun([&](const Run& run) {
      if (run.begin < from && goes_on(run.period)) from = run.begin;
      return false;
    });
    for (int32_t length = std::min(kLong - 1, n_units_); length > 0; --length) {
      const Unit& first = UnitBack(length - 1);
      if (first.begin >= from) break;  // shorter runs begin later
      // Runs that are one short of being suspicious anyhow, and those that begin well.
      const bool all = first.boundary || length + 1 >= kLong;
      RunsOf(length, all ? kMaxPeriod : kShort).ForEach([&](int32_t period) {
        if (!goes_on(period)) return false;
        from = first.begin;
        return true;
      });
    }
    return from;
  }
  int32_t n_units() const { return n_units_; }

  // Whether a run of this length may be the beginning of a copy. Short loops begin anywhere, long
  // ones with a sentence or a line; anything else is chance until a few units agree.
  static bool IsSuspicious(int32_t period, int32_t length, bool boundary) {
    return length >= (boundary || period <= kShort ? 1 : kLong);
  }
  static constexpr int32_t kShort = 64;
  static constexpr int32_t kLong = 4;

 private:
  struct Unit {
    uint32_t begin = 0;
    bool boundary = false;
  };
  // Of a run of at least kLong units.
  struct Start {
    int32_t number;  // of its first unit
    uint32_t begin;
    bool boundary;
  };

  // The unit so many before the last one, of the last kLong.
  const Unit& UnitBack(int32_t n) const {
    return recent_[static_cast<size_t>(n_units_ - n) % recent_.size()];
  }
  // The periods up to `longest` with a run of exactly `length` units, which is below kLong.
  Periods RunsOf(int32_t length, int32_t longest) const;
  Run LongRun(int32_t period) const {
    const Start& start = starts_[static_cast<size_t>(period)];
    return {period, n_units_ - start.number + 1, start.begin, start.boundary};
  }

  // The fingerprints of the last kMaxPeriod units, by number modulo that, twice behind each other:
  // so the window lies in one piece wherever it begins.
  std::array<uint32_t, 2 * kMaxPeriod> keys_{};
  std::array<Unit, kLong> recent_{};  // by number modulo kLong
  // The periods at which the last unit, the last two, ... equal those before them.
  std::array<Periods, kLong - 1> matching_{};
  Periods long_;
  std::array<Start, kMaxPeriod + 1> starts_;  // set for the periods in long_
  int32_t n_units_ = 0;
};

// The answer ends in at least 3 whole copies of a cycle of 1 to 256 units, 96 units or more; 256 or
// more where no letter is in the cycle, which is what matrices, rulers and drawings repeat. A unit
// is a word with the space before it (at most 12 letters, 32 digits), a run of one punctuation
// character or of white space, or one character of a script without spaces (Chinese, Thai, ...).
//
// Pieces count as units of their own for what is suspicious, so that a loop over tokens that begins
// inside a word is held back as well where pieces are tokens.
// Cost: about 0.2 us a piece, whatever the answer's length and its text; 15 KiB.
class RepetitionDetector final : public Detector {
 public:
  RepetitionDetector() = default;
  std::optional<Finding> Push(std::string_view text) override;
  size_t suspicious_bytes() const override { return n_bytes_ - suspicious_from_; }
  void Restart(std::string_view text) override;

  static constexpr int32_t kMinCopies = 3;
  static constexpr int32_t kMinUnits = 96;
  static constexpr int32_t kMinUnitsWithoutLetters = 256;

 private:
  enum class Kind : uint8_t { kNothing, kSpaces, kWord, kRun, kSingle };
  struct Unit {
    uint32_t begin = 0;
    uint32_t n_code_points = 0;
    // Of its letters or signs, not of the space before a word: an answer begins without one.
    uint32_t n_key_bytes = 0;
    uint64_t head = 0;  // the first 8 bytes, the first one lowest
    uint32_t hash = 0;
    Kind kind = Kind::kNothing;
    bool letters = false;
    bool boundary = false;  // a sentence or a line begins with it
  };

  static Kind KindOf(char32_t code_point, bool* letter);
  void PushCodePoint(char32_t code_point, std::string_view bytes);
  void CloseUnit();
  void FindPeriod();
  void PushUnits(std::string_view text);
  size_t PushWordCharacters(std::string_view text);
  uint32_t SuspiciousUnits() const;

  PeriodTracker units_;
  PeriodTracker pieces_;
  // Of the last units, by number: what they begin with, and whether they have letters.
  static constexpr size_t kWindow = PeriodTracker::kMaxPeriod;
  std::array<uint64_t, kWindow> heads_;
  std::array<bool, kWindow> letters_;
  std::array<uint8_t, 2 * kWindow> first_bytes_{};  // of the heads, laid out as the tracker's keys
  Unit open_;                                       // the unit that may go on; kNothing: none
  uint32_t n_bytes_ = 0;
  uint32_t suspicious_from_ = 0;
  // The character at the end, and where its fourth copy in a row begins.
  char32_t last_code_point_ = 0;
  uint32_t n_same_ = 0;
  uint32_t same_from_ = 0;
  std::optional<Finding> finding_;
};

}  // namespace tandem::gateway::relay
