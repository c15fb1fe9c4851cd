// How a model goes on behind a text that it, or another model, began.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/tokenizer.h"

namespace tandem::tokenizer {

// A text as a sequence of tokens that a model is shown, and the bytes behind them that its next
// tokens must spell out before anything new comes.
//
// A text that ends in the middle of a word is not made of the tokens of the whole word: behind
// "unbel" a model that always wrote "un", "believ", "able" would have to go on from "un", "bel",
// which it has never seen. So the last pieces are given back to the model as bytes ("token
// healing"), and it chooses the tokens for them, the last of which may reach beyond the text.
struct Continuation {
  std::vector<int32_t> token_ids;
  std::string rest;
};

// `text` is valid UTF-8. Where a model wrote it in the tokens that Encode() gives for the whole
// text, token_ids are the first of those: what stands behind a text can change only its last two
// pieces (see pretokenizer.h). Of a long piece without a border at most 32 tokens are given back.
// Added tokens that a decoder shows (<tool_call>) are found in the text, control tokens are not.
// Cost: as Encode(); then a batch step for each token that is given back.
Continuation PlanContinuation(const Tokenizer& tokenizer, std::string_view text);

// Whether `id` can come next where the bytes `rest` (not empty) must: it spells out their
// beginning, or all of them and more. Never a control token.
bool FitsContinuation(const Tokenizer& tokenizer, int32_t id, std::string_view rest);

}  // namespace tandem::tokenizer
