// What the classifier is measured against: the lists of keywords that clients route by today.
#pragma once

#include "train_classify/exam.h"

namespace tandem::train_classify {

// The first class of which any keyword occurs in the text, anywhere and in any language; without
// one, general_conversation. It is naive on purpose: "What is the number of your support line?" is
// maths to it.
gateway::Classification ClassifyByKeywords(std::string_view text);

}  // namespace tandem::train_classify
