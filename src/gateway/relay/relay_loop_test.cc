// An answer whose writer falls into a loop at any place, and another one that writes on: the client
// gets the whole text, once.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/utf8.h"
#include "gateway/relay/json_state.h"
#include "gateway/relay/overlap.h"
#include "gateway/relay/relay_harness.h"

namespace tandem::gateway::relay {
namespace {

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

// A space belongs to the word behind it, as in most vocabularies.
std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> pieces;
  while (!text.empty()) {
    const size_t end = text.find(' ', 1);
    pieces.emplace_back(text.substr(0, end));
    text.remove_prefix(pieces.back().size());
  }
  return pieces;
}

struct Text {
  std::string name;
  std::vector<std::string> pieces;
  bool json = false;
  bool tools = false;

  std::string whole() const {
    std::string text;
    for (const std::string& piece : pieces) text += piece;
    return text;
  }
};

Text English() {
  return {
      "plain text",
      Words(
          "The river rises in the hills above the town and runs for thirty miles before it meets "
          "the "
          "sea. For most of that way it is slow and brown, and in summer a child can walk across "
          "it "
          "without getting wet above the knee. In spring it is another thing. When the snow melts "
          "in "
          "the hills the water comes down in a single night, and the people who live near the "
          "bridge "
          "put sandbags in front of their doors and carry their books upstairs. Nobody has drowned "
          "for "
          "forty years, but every family has a story about somebody who almost did. My grandfather "
          "kept "
          "a boat tied to the apple tree behind his house, although the house stood half a mile "
          "from "
          "the bank. He had bought it after the flood of 1953, when the water stood as high as his "
          "kitchen table for a week, and he painted it every April whether it had been used or "
          "not. As "
          "far as I know it never was. My father sold it to a man from the city, who wanted it for "
          "his "
          "garden, and two winters later the water came again. We sat on the roof with a thermos "
          "and "
          "the neighbour's cat and watched our own apple tree go by, with a light blue boat behind "
          "it.")};
}

Text Json() {
  std::string text = "[\n";
  const std::array<std::string_view, 6> names = {"Ada",     "Grace \\\"G\\\"", "Lin\\u00e9",
                                                 "Barbara", "Sofja",           "Emmy"};
  for (int i = 0; i < 12; ++i) {
    text += fmt::format(
        R"(  {{"id": {}, "name": "{}", "score": {}.{}, "tags": ["t{}", "x"], "active": {}}})",
        i * 37 % 100, names[static_cast<size_t>(i) % names.size()], i * 7 % 10, i * 13 % 100, i,
        i % 3 == 0 ? "true" : "false");
    text += i < 11 ? ",\n" : "\n]";
  }
  return {.name = "JSON", .pieces = Split(text, 4), .json = true};
}

Text ToolCall() {
  std::string arguments;
  for (int i = 0; i < 24; ++i) {
    arguments += fmt::format(R"({}"field_{}": "value {} of {{braces}} and \"quotes\"")",
                             i == 0 ? "" : ", ", i, i * i);
  }
  return {.name = "tool call",
          .pieces = Split("Let me look that up for you in the table.\n<tool_call>\n{\"name\": "
                          "\"lookup\", \"arguments\": {" +
                              arguments + "}}\n</tool_call>",
                          5),
          .tools = true};
}

Text Russian() {
  return {
      "Russian",
      Words(
          "Река начинается в холмах над городом и течёт тридцать миль, прежде чем встретить море. "
          "Большую часть пути она медленная и бурая, и летом ребёнок может перейти её, не замочив "
          "колен. Весной всё иначе. Когда в холмах тает снег, вода приходит за одну ночь, и люди у "
          "моста кладут мешки с песком перед дверями и уносят книги наверх. За сорок лет никто не "
          "утонул, но в каждой семье есть рассказ о том, кто чуть не утонул. Мой дед держал лодку, "
          "привязанную к яблоне за домом, хотя дом стоял в полумиле от берега. Он купил её после "
          "наводнения, когда вода целую неделю стояла вровень с кухонным столом, и каждый апрель "
          "красил её заново, пользовались ею или нет. Насколько я знаю, ею не пользовались "
          "никогда. "
          "Отец продал её человеку из столицы, который хотел поставить её в саду, а через две зимы "
          "вода пришла снова. Мы сидели на крыше с термосом и соседской кошкой и смотрели, как "
          "мимо "
          "плывёт наша собственная яблоня, а за ней голубая лодка. С тех пор я верю в лодки, "
          "яблони и "
          "терпение, хотя живу теперь далеко от всякой воды, на девятом этаже, среди людей, "
          "которые "
          "никогда не слышали, как шумит ночью поднимающаяся река, и не знают, зачем нужен мешок с "
          "песком у двери, тёплый термос и чужая кошка, которая спит у тебя на коленях до "
          "рассвета.")};
}

Text Chinese() {
  return {"Chinese", Split("河水发源于城镇上方的山丘，流淌三十英里后汇入大海。一路上它大多缓慢而浑"
                           "浊，夏天孩子可以涉水而过，"
                           "水不会没过膝盖。春天则完全不同。山上的雪融化时，大水一夜之间涌来，住在"
                           "桥边的人们在门前堆起沙袋，"
                           "把书搬到楼上。四十年来没有人淹死，但每个家庭都有一个关于谁差点淹死的故"
                           "事。我的祖父在屋后的苹果树上"
                           "拴着一条小船，尽管房子离岸边有半英里远。那是他在大洪水之后买的，当时水"
                           "漫到厨房桌子那么高，整整一个"
                           "星期没有退去。每年四月他都给船重新上漆，不管有没有用过。据我所知，它从"
                           "来没有被用过。后来父亲把它卖给"
                           "了一个城里人，两个冬天以后洪水又来了。我们坐在屋顶上，抱着邻居的猫，看"
                           "着自己家的苹果树漂过去。",
                           1)};
}

Text Thai() {
  return {"Thai",
          Split("แม่น้ำเริ่มต้นในเนินเขาเหนือเมืองและไหลไปสามสิบไมล์ก่อนจะถึงทะเล ส่วนใหญ่ของทางน้ำไหลช้าและขุ่น "
                "ในฤดูร้อนเด็กเดินข้ามได้โดยน้ำไม่ถึงเข่า ในฤดูใบไม้ผลิกลับเป็นอีกเรื่องหนึ่ง เมื่อหิมะบนเขาละลาย น้ำจะมา "
                "ในคืนเดียว และผู้คนใกล้สะพานจะวางกระสอบทรายหน้าประตูแล้วขนหนังสือขึ้นชั้นบน สี่สิบปีมานี้ไม่มีใครจมน้ำ "
                "แต่ทุกครอบครัวมีเรื่องเล่าของคนที่เกือบจม ปู่ของฉันผูกเรือไว้กับต้นแอปเปิลหลังบ้าน แม้บ้านอยู่ห่างจากฝั่ง "
                "ครึ่งไมล์ เขาซื้อมันหลังน้ำท่วมใหญ่ และทาสีใหม่ทุกเดือนเมษายนไม่ว่าจะได้ใช้หรือไม่ก็ตาม",
                2)};
}

enum class Writer { kEngine, kCloud };  // reports the loop itself; goes on for ever

// How a prompted model takes up the thread.
enum class Manner { kDirect, kAnchor, kLastSentence, kFromTheBeginning, kWithoutSpace };

struct Case {
  Text text;
  Writer writer = Writer::kEngine;
  Continuation continuation = Continuation::kNativePrefix;
};

std::string Name(const Case& row, size_t k) {
  return fmt::format("{}, {}, {}, loop from piece {}", row.text.name,
                     row.writer == Writer::kEngine ? "engine" : "cloud",
                     row.continuation == Continuation::kPrompted ? "prompted" : "native", k);
}

size_t LoopLength(size_t k) {
  constexpr std::array<size_t, 8> kLengths = {1, 2, 3, 5, 8, 13, 21, 34};
  return std::min(k, kLengths[k % kLengths.size()]);
}

// Pieces 0..k, then the last `period` of them again and again, until the writer notices or is
// cancelled. The number of pieces written.
int64_t WriteLoop(FakeProvider::Call& call, const Case& row, size_t k, size_t period) {
  const std::vector<std::string>& pieces = row.text.pieces;
  for (size_t i = 0; i < k; ++i) call.EmitText(pieces[i]);
  auto written = static_cast<int64_t>(k);
  const size_t enough = row.writer == Writer::kEngine ? std::max<size_t>(3 * period, 48) : 5000;
  for (size_t i = 0; i + period < enough && call.cancels() == 0; ++i) {
    call.EmitText(pieces[k - period + i % period]);
    ++written;
  }
  const bool cancelled = call.cancels() > 0;
  EXPECT_TRUE(cancelled || row.writer == Writer::kEngine) << "a loop of a cloud goes on";
  call.Emit(Finished{.reason = cancelled ? FinishReason::kCancelled : FinishReason::kDegenerate,
                     .usage = {.prompt_tokens = 11, .completion_tokens = written},
                     .detail = "tail_period: the last 48 tokens repeat a cycle"});
  return written;
}

std::string PromptedText(std::string_view said, std::string_view whole, Manner manner) {
  const std::string_view rest = whole.substr(said.size());
  switch (manner) {
    case Manner::kDirect:
      return std::string(rest);
    case Manner::kAnchor:
      return fmt::format("{}{}", AnchorOf(said), rest);
    case Manner::kLastSentence: {
      const size_t stop = said.find_last_of(".!?\n");
      const std::string_view sentence = said.substr(stop == std::string_view::npos ? 0 : stop + 1);
      // A model writes no space at the beginning of its message.
      const size_t begin = std::min(sentence.find_first_not_of(' '), sentence.size());
      return fmt::format("{}{}", sentence.substr(begin), rest);
    }
    case Manner::kFromTheBeginning:
      return std::string(whole);
    case Manner::kWithoutSpace:
      return std::string(rest.substr(std::min(rest.find_first_not_of(' '), rest.size())));
  }
  return {};
}

void CheckLoopFrom(const Case& row, size_t k) {
  SCOPED_TRACE(Name(row, k));
  const std::string whole = row.text.whole();
  Harness harness(2);
  harness.candidates[1].continuation = row.continuation;
  harness.options.expect_json = row.text.json;
  GenerateRequest request{.messages = {{.role = "user", .content = "Tell me."}},
                          .tools_json = row.text.tools ? "[{}]" : "",
                          .max_tokens = 4000};
  harness.Start(request);
  const int64_t n_first = WriteLoop(harness.call(0), row, k, LoopLength(k));
  ASSERT_EQ(harness.n_calls(1), 1u) << "the second was not asked";
  ASSERT_FALSE(harness.client.over());

  // What the client has is how the text begins, and the second one is told just that.
  FakeProvider::Call& second = harness.call(1);
  const std::string said = harness.client.text;
  ASSERT_TRUE(whole.starts_with(said)) << said;
  std::string news = whole.substr(said.size());
  if (said.empty()) {
    EXPECT_EQ(second.request().messages, request.messages);
    EXPECT_EQ(second.request().assistant_prefix, "");
  } else if (row.continuation == Continuation::kNativePrefix) {
    EXPECT_EQ(second.request().assistant_prefix, said);
    EXPECT_EQ(second.request().messages, request.messages);
  } else {
    ASSERT_EQ(second.request().messages.size(), 3u);
    EXPECT_EQ(second.request().messages[1], (Message{.role = "assistant", .content = said}));
    EXPECT_EQ(second.request().messages[2].role, "user");
    // Where a word follows, and it can be known that one does.
    const bool words = row.text.pieces[k - LoopLength(k)].starts_with(' ') &&
                       (row.text.name == "plain text" || row.text.name == "Russian");
    news = PromptedText(said, whole, static_cast<Manner>(k % (words ? 5 : 4)));
  }
  EXPECT_LE(*second.request().max_tokens, said.empty() ? 4000 : 3999);
  EXPECT_GE(*second.request().max_tokens, 4000 - static_cast<int>(k));

  int64_t n_second = 0;
  for (const std::string& piece : Split(news, 1 + k % 7)) {
    second.EmitText(piece);
    ++n_second;
  }
  second.Emit(Finished{.usage = {.prompt_tokens = 13, .completion_tokens = n_second}});

  ASSERT_EQ(harness.client.text, whole);
  ASSERT_TRUE(harness.client.finished);
  const Finished& finished = *harness.client.finished;
  EXPECT_EQ(finished.reason, FinishReason::kStop);
  const bool first_counts = !said.empty();
  EXPECT_EQ(finished.usage.prompt_tokens, first_counts ? 11 : 13);
  EXPECT_EQ(finished.usage.completion_tokens, (first_counts ? n_first : 0) + n_second);
  ASSERT_EQ(finished.attempts.size(), 2u);
  EXPECT_EQ(finished.attempts[0].outcome,
            first_counts ? AttemptOutcome::kHandedOff : AttemptOutcome::kFailed);
  EXPECT_EQ(finished.attempts[0].failure, FailureCode::kOutputValidationFailed);
  EXPECT_EQ(finished.attempts[0].text_end, said.size());
  EXPECT_EQ(finished.attempts[1].outcome, AttemptOutcome::kAnswered);
  EXPECT_EQ(finished.attempts[1].text_begin, said.size());
  EXPECT_EQ(finished.attempts[1].text_end, whole.size());
  EXPECT_EQ(harness.observer->ended.size(), 2u);
  EXPECT_TRUE(harness.observer->done);
}

class RelayLoopTest : public testing::TestWithParam<int> {};

TEST_P(RelayLoopTest, ClientGetsTheWholeTextOnceFromEveryPlace) {
  const std::array<Text (*)(), 6> texts = {English, Json, ToolCall, Russian, Chinese, Thai};
  Case row{.text = texts[static_cast<size_t>(GetParam())]()};
  ASSERT_GT(row.text.pieces.size(), 200u) << "too short to loop from the 200th piece";
  for (const Writer writer : {Writer::kEngine, Writer::kCloud}) {
    for (const Continuation how : {Continuation::kNativePrefix, Continuation::kPrompted}) {
      row.writer = writer;
      row.continuation = how;
      for (size_t k = 1; k <= 200; ++k) {
        CheckLoopFrom(row, k);
        if (HasFatalFailure()) return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Texts, RelayLoopTest, testing::Range(0, 6));

}  // namespace
}  // namespace tandem::gateway::relay
