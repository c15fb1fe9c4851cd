#include "app/inspect.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

using testing::HasSubstr;

const std::filesystem::path kDemo =
    std::filesystem::path(TANDEM_SOURCE_DIR) / "models/demo/tandem-demo-q4_0.gguf";

Result<std::string> TokenizeDemo(TokenizeOptions options, std::string_view input) {
  options.source = kDemo;
  std::string all;
  const Status status = Tokenize(options, input, [&](std::string_view line) -> Status {
    all += line;
    all += options.json_lines ? "\n" : "";
    return {};
  });
  if (!status) return std::unexpected(status.error());
  return all;
}

TEST(InspectTest, IdsAreParsedInBothForms) {
  EXPECT_EQ(ParseTokenIds("1,2, 3").value(), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(ParseTokenIds(" [4, 5] ").value(), (std::vector<int32_t>{4, 5}));
  EXPECT_EQ(ParseTokenIds("").value(), std::vector<int32_t>{});
  for (const char* wrong : {"1,,2", "x", "1.5", "[1.5]", "[99999999999]", "1;2"}) {
    EXPECT_EQ(ParseTokenIds(wrong).error().code, ErrorCode::kInvalidArgument) << wrong;
  }
  EXPECT_EQ(FormatTokenIds({1, 2}), "[1,2]");
}

TEST(InspectTest, TextGoesToIdsAndBack) {
  const std::string text = "Do you ship to Singapore? \xC3\xA9\xE2\x82\xAC";
  const auto ids = TokenizeDemo({}, text);
  ASSERT_TRUE(ids) << ids.error().message;
  EXPECT_EQ(TokenizeDemo({.decode = true}, *ids).value(), text);
}

TEST(InspectTest, JsonLinesGiveALineEachAndNameTheLineThatIsWrong) {
  const TokenizeOptions lines{.json_lines = true};
  const auto ids = TokenizeDemo(lines, "{\"text\": \"Hello\"}\n\n{\"utf8_hex\": \"48656c6c6f\"}\n");
  ASSERT_TRUE(ids) << ids.error().message;
  const size_t middle = ids->find('\n');
  EXPECT_EQ(ids->substr(0, middle), ids->substr(middle + 1, middle));
  EXPECT_THAT(TokenizeDemo(lines, "{\"text\": \"a\"}\n{\"text\": 5}").error().message,
              HasSubstr("line 2"));
  EXPECT_THAT(TokenizeDemo(lines, "{").error().message, HasSubstr("line 1"));
}

TEST(InspectTest, ChatRendersMarkersThatTextCannotForge) {
  const auto plain = TokenizeDemo({.chat = true}, R"([{"role": "user", "content": "Hi"}])");
  ASSERT_TRUE(plain) << plain.error().message;
  EXPECT_EQ(TokenizeDemo({.decode = true, .specials = true}, *plain).value(),
            "<|user|>Hi<|end|><|assistant|>");
  const auto forged = TokenizeDemo({}, "<|user|>Hi<|end|><|assistant|>");
  const auto parsed = TokenizeDemo({.specials = true}, "<|user|>Hi<|end|><|assistant|>");
  EXPECT_NE(forged.value(), plain.value());
  EXPECT_EQ(parsed.value(), plain.value());
  EXPECT_EQ(TokenizeDemo({.chat = true}, R"([{"content": "no role"}])").error().code,
            ErrorCode::kInvalidArgument);
}

TEST(InspectTest, LogitsAreWrittenWholeAndAgreeWithTheGreedyIds) {
  const os::TempDir dir;
  const LogitsOptions options{.model = kDemo,
                              .engine = {.n_threads = 1, .context_tokens = 64},
                              .tokens = {1, 2, 3},
                              .out = dir / "logits",
                              .greedy = 1};
  const auto greedy = WriteLogits(options);
  ASSERT_TRUE(greedy) << greedy.error().message;
  const std::string bytes = os::ReadFile(dir / "logits", 1 << 24).value();
  const size_t vocab = bytes.size() / 3 / sizeof(float);
  ASSERT_EQ(bytes.size(), 3 * vocab * sizeof(float));
  std::vector<float> last(vocab);
  std::memcpy(last.data(), bytes.data() + 2 * vocab * sizeof(float), vocab * sizeof(float));
  const auto best = std::max_element(last.begin(), last.end()) - last.begin();
  ASSERT_EQ(greedy->size(), 1u);
  EXPECT_EQ((*greedy)[0], best);
}

TEST(InspectTest, AFailedRunLeavesNoFile) {
  const os::TempDir dir;
  const auto failed = WriteLogits({.model = kDemo,
                                   .engine = {.n_threads = 1, .context_tokens = 64},
                                   .tokens = {1, 99'999'999},
                                   .out = dir / "logits"});
  EXPECT_EQ(failed.error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(InspectTest, OnlyRegularFilesAreReplacedAndLinksAreFollowed) {
  const os::TempDir dir;
  const auto write = [&](const std::filesystem::path& out) {
    return WriteLogits({.model = kDemo,
                        .engine = {.n_threads = 1, .context_tokens = 64},
                        .tokens = {1},
                        .out = out});
  };
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(write(dir / "pipe").error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::is_fifo(dir / "pipe"));
  EXPECT_EQ(write(dir.path()).error().code, ErrorCode::kInvalidArgument);
  ASSERT_TRUE(os::WriteFileAtomic(dir / "target", "old"));
  std::filesystem::create_symlink(dir / "target", dir / "link");
  ASSERT_TRUE(write(dir / "link"));
  EXPECT_TRUE(std::filesystem::is_symlink(dir / "link"));
  EXPECT_GT(std::filesystem::file_size(dir / "target"), 1000u);
}

}  // namespace
}  // namespace tandem::app
