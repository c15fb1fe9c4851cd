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

// Runs of equal units, at every distance: the engine's tail rule, with room for unequal copies.
class PeriodTracker {
 public:
  static constexpr int kMaxPeriod = 256;
  // A single unit that stood shortly before is the likely beginning of a copy; one from further
  // back is chance, and two in a row are needed.
  static constexpr int kNear = 64;
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

  // The next unit: `key` its fingerprint (not 0), `begin` its offset in the answer.
  void Push(uint32_t key, uint32_t begin);
  // Where the longest run at the end begins; kNone without one.
  uint32_t suspicious_from() const { return suspicious_from_; }
  // The same if another unit at `begin` followed that could be any of those whose bit is set in
  // `matches` (index kMaxPeriod - p: the unit p back).
  uint32_t SuspiciousWith(const std::array<bool, kMaxPeriod>& matches, uint32_t begin) const;
  // How many units at the end equal the unit p before them.
  int32_t run(int period) const { return runs_[static_cast<size_t>(kMaxPeriod - period)]; }
  // Index in a ring of 2 * kMaxPeriod of the oldest unit of the window before the next one.
  size_t window() const { return static_cast<size_t>(n_units_ % kMaxPeriod); }
  int64_t n_units() const { return n_units_; }
  bool may_be_period() const { return may_be_period_; }

  // A cycle is reported from so many units on, and at least so many copies.
  static constexpr int kMinUnits = 96;
  static constexpr int kMinCopies = 3;

 private:
  // The last kMaxPeriod fingerprints, twice over, so that the window is contiguous: unit i stands
  // at i % kMaxPeriod and kMaxPeriod behind that.
  std::array<uint32_t, 2 * kMaxPeriod> keys_{};
  // By distance p, at kMaxPeriod - p: length and first byte of the run of equal units at the end.
  std::array<int32_t, kMaxPeriod> runs_{};
  std::array<uint32_t, kMaxPeriod> run_begins_{};
  int64_t n_units_ = 0;
  uint32_t suspicious_from_ = kNone;
  bool may_be_period_ = false;  // some run is long enough; the shortest has to be looked for
};

// The answer ends in at least 3 whole copies of a cycle of 1 to 256 units, 96 units or more; 256 or
// more where no letter is in the cycle, which is what matrices, rulers and drawings repeat. A unit
// is a word with the space before it (at most 12 letters), a run of one punctuation character or of
// white space, or one character of a script without spaces (Chinese, Thai, ...).
//
// Pieces count as units of their own for what is suspicious, so that a loop over tokens that begins
// inside a word is held back as well where pieces are tokens.
// Cost: about 0.2 us a piece and 0.1 us a unit, whatever the answer's length; 12 KiB.
class RepetitionDetector final : public Detector {
 public:
  std::optional<Finding> Push(std::string_view text) override;
  size_t suspicious_bytes() const override { return n_bytes_ - suspicious_from_; }
  void Restart(std::string_view text) override;

  static constexpr int kMinUnitsWithoutLetters = 256;

 private:
  enum class Kind : uint8_t { kNothing, kSpaces, kWord, kRun, kSingle };
  struct Unit {
    uint32_t begin = 0;
    uint32_t n_bytes = 0;
    uint32_t n_code_points = 0;
    uint64_t head = 0;  // the first 8 bytes, the first one lowest
    uint32_t hash = 0;
    Kind kind = Kind::kNothing;
    bool letters = false;
  };

  static Kind KindOf(char32_t code_point, bool* letter);
  void PushCodePoint(char32_t code_point, std::string_view bytes);
  void CloseUnit();
  void FindPeriod();
  void PushUnits(std::string_view text);
  uint32_t SuspiciousUnits() const;

  PeriodTracker units_;
  PeriodTracker pieces_;
  // As PeriodTracker::keys_: what the units of the window begin with, and whether they have
  // letters.
  std::array<uint64_t, 2 * PeriodTracker::kMaxPeriod> heads_{};
  std::array<bool, 2 * PeriodTracker::kMaxPeriod> letters_{};
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
