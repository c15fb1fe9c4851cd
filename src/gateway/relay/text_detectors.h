// Detectors for answers that have fallen into a loop, seen as text: what a cloud API streams has no
// token ids. They also say how much of the end may be the beginning of one, so that the relay can
// hold it back and a client never sees a copy.
#pragma once

#include <array>
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
// Cost: a few ns for every earlier unit in the window that equals the new one; 7 KiB.
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

  // The next unit: `key` its fingerprint, `begin` its offset in the answer.
  void Push(uint32_t key, uint32_t begin, bool boundary);
  // All runs at the end, the nearest first.
  const std::vector<Run>& runs() const { return runs_; }
  // Where the earliest one begins that may be a copy; kNone without one.
  uint32_t SuspiciousFrom() const;
  int32_t n_units() const { return n_units_; }

  // Whether a run of this length may be the beginning of a copy. Short loops begin anywhere, long
  // ones with a sentence or a line; anything else is chance until a few units agree.
  static bool IsSuspicious(int32_t period, int32_t length, bool boundary) {
    return length >= (boundary || period <= kShort ? 1 : 4);
  }
  static constexpr int32_t kShort = 64;

 private:
  static constexpr size_t kBuckets = 512;
  static size_t Slot(int32_t unit) { return static_cast<size_t>(unit % kMaxPeriod); }

  // Units are numbered from 1. By slot, of the last kMaxPeriod: fingerprint, and the last unit
  // before it in the same bucket.
  std::array<uint32_t, kMaxPeriod> keys_{};
  std::array<int32_t, kMaxPeriod> previous_{};
  std::array<int32_t, kBuckets> last_{};  // by fingerprint: the last unit; 0: none
  // By period: the run that last had it, and up to which unit it went.
  std::array<Run, kMaxPeriod + 1> by_period_{};
  std::array<int32_t, kMaxPeriod + 1> up_to_{};
  std::vector<Run> runs_;
  int32_t n_units_ = 0;
};

// The answer ends in at least 3 whole copies of a cycle of 1 to 256 units, 96 units or more; 256 or
// more where no letter is in the cycle, which is what matrices, rulers and drawings repeat. A unit
// is a word with the space before it (at most 12 letters, 32 digits), a run of one punctuation
// character or of white space, or one character of a script without spaces (Chinese, Thai, ...).
//
// Pieces count as units of their own for what is suspicious, so that a loop over tokens that begins
// inside a word is held back as well where pieces are tokens.
// Cost: about 0.1 us a piece, whatever the answer's length; 25 KiB.
class RepetitionDetector final : public Detector {
 public:
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
  uint32_t SuspiciousUnits() const;

  PeriodTracker units_;
  PeriodTracker pieces_;
  // Of the last units, by number: what they begin with, and whether they have letters.
  static constexpr size_t kWindow = PeriodTracker::kMaxPeriod;
  std::array<uint64_t, kWindow> heads_{};
  std::array<bool, kWindow> letters_{};
  Unit open_;  // the unit that may go on; kNothing: none
  uint32_t n_bytes_ = 0;
  uint32_t suspicious_from_ = 0;
  // The character at the end, and where its fourth copy in a row begins.
  char32_t last_code_point_ = 0;
  uint32_t n_same_ = 0;
  uint32_t same_from_ = 0;
  std::optional<Finding> finding_;
};

}  // namespace tandem::gateway::relay
