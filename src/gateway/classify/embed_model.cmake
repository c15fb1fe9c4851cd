# cmake -DINPUT=model.bin -DOUTPUT=embedded_model.cc -P embed_model.cmake
# Writes the bytes as one string literal: clang reads that in milliseconds, a list of numbers in
# seconds. #embed would do, but ccache does not yet see what it depends on.
file(READ "${INPUT}" bytes HEX)
# Every byte is escaped, so that no hexadecimal escape runs into the next character.
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" bytes "${bytes}")
file(SIZE "${INPUT}" size)
file(WRITE "${OUTPUT}" "// Generated from ${INPUT} by embed_model.cmake.
#include \"gateway/classify/embedded_model.h\"

#pragma clang diagnostic ignored \"-Woverlength-strings\"

namespace tandem::gateway {

const char kEmbeddedModel[] = \"${bytes}\";
const size_t kEmbeddedModelBytes = ${size};

}  // namespace tandem::gateway
")
