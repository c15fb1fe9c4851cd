#include "gateway/relay/text_detectors.h"

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/utf8.h"

namespace tandem::gateway::relay {
namespace {

uint32_t Next(uint32_t* state) { return (*state = *state * 1664525 + 1013904223) >> 16; }

// Whole code points, `n` at a time.
std::vector<std::string> Split(std::string_view text, size_t n) {
  std::vector<std::string> pieces;
  while (!text.empty()) {
    size_t length = 0;
    for (size_t i = 0; i < n && length < text.size(); ++i) {
      length += utf8::DecodeOne(text.substr(length)).length;
    }
    pieces.emplace_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return pieces;
}

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> pieces;
  while (!text.empty()) {
    const size_t end = text.find(' ', 1);
    pieces.emplace_back(text.substr(0, end));
    text.remove_prefix(pieces.back().size());
  }
  return pieces;
}

constexpr std::string_view kProse =
    "The river rises in the hills above the town and runs for thirty miles before it meets the "
    "sea. "
    "For most of that way it is slow and brown, and in summer a child can walk across it without "
    "getting wet above the knee. In spring it is another thing. When the snow melts in the hills "
    "the "
    "water comes down in a single night, and the people who live near the bridge put sandbags in "
    "front of their doors and carry their books upstairs. Nobody has drowned for forty years, but "
    "every family has a story about somebody who almost did. My grandfather kept a boat tied to "
    "the "
    "apple tree behind his house, although the house stood half a mile from the bank. He had "
    "bought "
    "it after the flood of 1953, when the water stood as high as his kitchen table for a week, and "
    "he painted it every April whether it had been used or not.";

// Everything that repeats for a reason. None of it may be taken for a loop, however it is cut.
std::vector<std::pair<std::string, std::string>> LegitTexts() {
  std::vector<std::pair<std::string, std::string>> texts;
  texts.emplace_back("prose", kProse);

  std::string table = "| item | amount | unit | note |\n|------|-------:|:----:|------|\n";
  for (int i = 0; i < 30; ++i) table += fmt::format("| bolt M{} | {} | kg | |\n", i % 7 + 3, i * 5);
  texts.emplace_back("table", table);

  std::string empty_rows = "| Monday | Tuesday | Wednesday |\n|---|---|---|\n";
  for (int i = 0; i < 12; ++i) empty_rows += "|        |         |           |\n";
  texts.emplace_back("table to fill in", empty_rows);

  std::string matrix = "[\n";
  for (int i = 0; i < 8; ++i) matrix += "  [0, 0, 0, 0, 0, 0, 0, 0],\n";
  texts.emplace_back("zero matrix", matrix + "]\n");

  std::string objects = "[";
  for (int i = 0; i < 25; ++i) {
    objects += fmt::format(R"({{"id": {}, "name": "user{}", "active": true, "tags": []}},)", i, i);
  }
  texts.emplace_back("JSON objects", objects + "{}]");

  texts.emplace_back("equal JSON objects",
                     R"([{"x": 0, "y": 0, "on": false}, {"x": 0, "y": 0, "on": false}, )"
                     R"({"x": 0, "y": 0, "on": false}, {"x": 0, "y": 0, "on": false}])");

  std::string code;
  for (int i = 0; i < 12; ++i) {
    code += fmt::format("    case Kind::kThing{}:\n      return Parse(reader, out);\n", i);
  }
  texts.emplace_back("switch", code);
  texts.emplace_back("closing braces", "f(g(h(i(j(k(1))))))\n}\n}\n}\n}\n}\n}\n}\n}\n");
  texts.emplace_back("ruler", std::string(120, '=') + "\n" + std::string(120, '-') + "\n");

  std::string art;
  for (int i = 1; i <= 15; ++i)
    art += std::string(30 - 2 * i, ' ') + std::string(4 * i, '*') + "\n";
  for (int i = 0; i < 6; ++i) art += "             |  |  |\n";
  texts.emplace_back("drawing", art);

  std::string board;
  for (int i = 0; i < 8; ++i) board += i % 2 == 0 ? "■ □ ■ □ ■ □ ■ □\n" : "□ ■ □ ■ □ ■ □ ■\n";
  texts.emplace_back("chess board", board);

  texts.emplace_back("chorus",
                     "Row, row, row your boat, gently down the stream,\nmerrily, merrily, merrily, "
                     "merrily, life is but a dream.\nRow, row, row your boat, gently down the "
                     "stream,\nmerrily, merrily, merrily, merrily, life is but a dream.\n");
  texts.emplace_back("laughter", "哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈，真好笑。 hahahahahahahahaha!");
  std::string list;
  for (int i = 1; i <= 40; ++i)
    list += fmt::format("{}. Repeat the exercise with the left hand.\n", i);
  texts.emplace_back("numbered list", list);
  return texts;
}

TEST(PeriodTrackerTest, RunsAreThoseOfTheDefinition) {
  uint32_t state = 3;
  for (int round = 0; round < 20; ++round) {
    PeriodTracker tracker;
    std::vector<uint32_t> units;
    for (int i = 0; i < 700; ++i) {
      // Mostly a repetition of the past, so that runs of all lengths occur.
      const size_t back = 1 + Next(&state) % 300;
      const bool again = units.size() >= back && Next(&state) % 8 != 0;
      for (uint32_t n = again ? Next(&state) % 9 : 1; n > 0; --n) {
        units.push_back(again ? units[units.size() - back] : Next(&state) % 5);
        tracker.Push(units.back(), static_cast<uint32_t>(units.size() - 1), false);
        std::vector<std::pair<int, int>> expected;
        for (size_t p = 1; p <= PeriodTracker::kMaxPeriod && p < units.size(); ++p) {
          int run = 0;
          for (size_t at = units.size() - 1; at >= p && units[at] == units[at - p]; --at) ++run;
          if (run > 0) expected.emplace_back(p, run);
        }
        std::vector<std::pair<int, int>> actual;
        for (const PeriodTracker::Run& found : tracker.runs()) {
          actual.emplace_back(found.period, found.length);
          // The length may count units from before the window; the beginning is the same.
          ASSERT_EQ(found.begin + static_cast<uint32_t>(found.length), units.size());
        }
        ASSERT_EQ(actual, expected) << "round " << round << ", unit " << units.size();
      }
    }
  }
}

TEST(PeriodTrackerTest, SuspicionIsThatOfTheRuns) {
  uint32_t state = 11;
  int n_suspicious = 0;
  for (int round = 0; round < 20; ++round) {
    PeriodTracker tracker;
    std::vector<uint32_t> units;
    for (int i = 0; i < 1200; ++i) {
      const size_t back = 1 + Next(&state) % 280;
      const bool again = units.size() >= back && Next(&state) % 3 != 0;
      units.push_back(again ? units[units.size() - back] : Next(&state) % 40);
      tracker.Push(units.back(), static_cast<uint32_t>(3 * units.size()), Next(&state) % 9 == 0);
      uint32_t from = PeriodTracker::kNone;
      uint32_t from_if = PeriodTracker::kNone;
      const auto goes_on = [&](int32_t period) { return period % 7 == i % 7; };
      for (const PeriodTracker::Run& run : tracker.runs()) {
        if (PeriodTracker::IsSuspicious(run.period, run.length, run.boundary)) {
          from = std::min(from, run.begin);
        }
        if (PeriodTracker::IsSuspicious(run.period, run.length + 1, run.boundary) &&
            goes_on(run.period)) {
          from_if = std::min(from_if, run.begin);
        }
      }
      ASSERT_EQ(tracker.SuspiciousFrom(), from) << round << " " << i;
      ASSERT_EQ(tracker.SuspiciousFromIf(goes_on), from_if) << round << " " << i;
      n_suspicious += from != PeriodTracker::kNone && from_if != PeriodTracker::kNone;
    }
  }
  EXPECT_GT(n_suspicious, 1000);
}

TEST(RepetitionDetectorTest, WhatRepeatsForAReasonIsNoLoop) {
  for (const auto& [name, text] : LegitTexts()) {
    for (const size_t n : {1, 3, 7, 1000}) {
      RepetitionDetector detector;
      for (const std::string& piece : Split(text, n)) {
        const auto found = detector.Push(piece);
        ASSERT_FALSE(found) << name << " in pieces of " << n << ": " << found->figure;
      }
    }
  }
}

TEST(RepetitionDetectorTest, LoopOfEveryLengthIsFoundHoweverItIsCut) {
  for (int period = 1; period <= 120; ++period) {
    std::string cycle;
    for (int i = 0; i < period; ++i) cycle += fmt::format(" word{}", i);
    for (const size_t n : {1, 4, 11}) {
      std::string text(kProse);
      RepetitionDetector detector;
      for (const std::string& piece : Split(text, n)) ASSERT_FALSE(detector.Push(piece));
      size_t looped = 0;
      std::optional<Finding> found;
      while (!found && looped < 40000) {
        for (const std::string& piece : Split(cycle, n)) {
          looped += piece.size();
          found = detector.Push(piece);
          if (found) break;
        }
      }
      ASSERT_TRUE(found) << period;
      EXPECT_EQ(found->check, "tail_period");
      EXPECT_TRUE(found->figure.ends_with(fmt::format("a cycle of {}", period))) << found->figure;
      // Not before there are the copies and the words, and no later than a piece after that.
      const size_t needed = std::max<size_t>(3 * period, 96);
      const size_t before = cycle.size() * (needed - 1) / static_cast<size_t>(period);
      EXPECT_GE(looped + 8, before);
      EXPECT_LE(looped, before + 2 * (n + 8) + cycle.size() / static_cast<size_t>(period) + 16);
    }
  }
}

TEST(RepetitionDetectorTest, LoopsOfScriptsWithoutSpacesAreFound) {
  for (const std::string_view cycle :
       {"我们继续讨论这个问题。", "ผมชอบกินข้าวผัดกุ้งมาก", "私はそれが好きです、",
        "да, и ещё раз: ", "Tôi rất thích món ăn này. ", "😀😃😄"}) {
    RepetitionDetector detector;
    std::optional<Finding> found;
    for (int i = 0; i < 300 && !found; ++i) {
      for (const std::string& piece : Split(cycle, 2)) {
        found = detector.Push(piece);
        if (found) break;
      }
    }
    EXPECT_TRUE(found) << cycle;
  }
}

TEST(RepetitionDetectorTest, NoCopyOfALoopIsShown) {
  // What would have been shown at any time, whichever words the loop goes over.
  const std::vector<std::string> words = Words(kProse);
  for (size_t begin = 40; begin < words.size(); begin += 7) {
    for (const size_t period : {1, 2, 3, 5, 8, 13, 21, 34}) {
      RepetitionDetector detector;
      size_t n_bytes = 0;
      for (size_t i = 0; i < begin; ++i) {
        detector.Push(words[i]);
        n_bytes += words[i].size();
      }
      const size_t shown_at_most = n_bytes;
      for (int copy = 0; copy < 4; ++copy) {
        for (size_t i = begin - period; i < begin; ++i) {
          if (detector.Push(words[i])) break;
          n_bytes += words[i].size();
          ASSERT_LE(n_bytes - detector.suspicious_bytes(), shown_at_most)
              << "period " << period << " from word " << begin;
        }
      }
    }
  }
}

TEST(RepetitionDetectorTest, RepetitionIsReleasedAsSoonAsItBreaks) {
  RepetitionDetector detector;
  detector.Push("one two three four five.");
  detector.Push(" one two three");
  EXPECT_EQ(detector.suspicious_bytes(), 14u);
  detector.Push(" blue");
  EXPECT_EQ(detector.suspicious_bytes(), 0u);
}

TEST(RepetitionDetectorTest, RunOfOneCharacterWaitsFromTheFourthOn) {
  RepetitionDetector detector;
  detector.Push("Title\n---");
  EXPECT_EQ(detector.suspicious_bytes(), 0u);
  detector.Push("-----");
  EXPECT_EQ(detector.suspicious_bytes(), 5u);
  detector.Push("\nText");
  EXPECT_EQ(detector.suspicious_bytes(), 0u);
}

TEST(RepetitionDetectorTest, OrdinaryProseHardlyWaits) {
  RepetitionDetector detector;
  const std::vector<std::string> words = Words(kProse);
  size_t held = 0;
  size_t most = 0;
  for (const std::string& word : words) {
    detector.Push(word);
    held += detector.suspicious_bytes();
    most = std::max(most, detector.suspicious_bytes());
  }
  const double mean = static_cast<double>(held) / static_cast<double>(words.size());
  RecordProperty("mean_held_bytes", fmt::format("{:.2f}", mean));
  EXPECT_LT(mean, 2.5);  // half a word
  EXPECT_LT(most, 24u);  // a few words
}

TEST(RepetitionDetectorTest, AfterARestartTheOldTextStillCounts) {
  RepetitionDetector detector;
  detector.Push("something else entirely");
  detector.Restart("The cat sat on the mat.");
  EXPECT_EQ(detector.suspicious_bytes(), 0u);
  EXPECT_FALSE(detector.Push(" The"));
  detector.Push(" cat sat");
  EXPECT_EQ(detector.suspicious_bytes(), 12u);
}

TEST(RepetitionDetectorTest, BytesThatAreNoTextDoNoHarm) {
  RepetitionDetector detector;
  uint32_t state = 9;
  size_t total = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string piece(Next(&state) % 6, '\0');
    for (char& c : piece) c = static_cast<char>(Next(&state));
    detector.Push(piece);
    total += piece.size();
    ASSERT_LE(detector.suspicious_bytes(), total);
  }
}

}  // namespace
}  // namespace tandem::gateway::relay
