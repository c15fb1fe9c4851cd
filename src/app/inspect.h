// Looking at a tokenizer and at a model's raw output from outside: `tandem tokenize`, `tandem
// logits`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/engine.h"

namespace tandem::app {

// Receives one line of output, without its line break.
using LineSink = std::function<Status(std::string_view)>;

struct TokenizeOptions {
  std::filesystem::path source;  // a GGUF, or a tokenizer.json
  bool decode = false;           // input is ids, output is text
  bool chat = false;             // input is messages, output the ids of the prompt
  bool specials = false;         // markers in the text become special tokens, and are spelled back
  bool json_lines = false;       // one input a line, as JSON; one line of JSON out for each
};

// One input at a time:
//   text                    -> [ids]      the whole of `input`, or {"text": "..."} or
//                                         {"utf8_hex": "..."} a line
//   [ids]                   -> text       with decode; a line is [ids] or {"ids": [ids]}, and the
//                                         output then a JSON string
//   [messages], or {"messages": [...], "tools": [...]} -> [ids]      with chat
// Errors: kInvalidArgument, naming the line; those of TextCodec.
Status Tokenize(const TokenizeOptions& options, std::string_view input, const LineSink& out);

struct LogitsOptions {
  std::filesystem::path model;
  engine::EngineOptions engine;
  std::vector<int32_t> tokens;
  std::filesystem::path out;  // raw little-endian float32 [tokens, vocab_size]; empty: none
  int greedy = 0;             // so many next ids
};

// Writes the logits of every position and gives the greedy continuation. The file appears whole or
// not at all.
Result<std::vector<int32_t>> WriteLogits(const LogitsOptions& options);

// "1,2,3" or "[1, 2, 3]". Errors: kInvalidArgument, naming the place.
Result<std::vector<int32_t>> ParseTokenIds(std::string_view text);

// "[1,2,3]".
std::string FormatTokenIds(const std::vector<int32_t>& ids);

}  // namespace tandem::app
