#include "tensor/text.h"

#include <string>

#include "gtest/gtest.h"

namespace weightstream {
namespace {

TEST(Utf8, AcceptsTheEdgesOfEachLength) {
  for (const char* text : {"", "a", "\x7f", "\u0080", "\u07ff", "\u0800", "\ue000", "\uffff", "\U00010000",
                           "\U0010ffff", "model.layers.0.\u5c42", "12345678\u00e912345678"}) {
    EXPECT_TRUE(IsValidUtf8(text)) << text;
  }
  EXPECT_TRUE(IsValidUtf8(absl::string_view("a\0b", 3)));
}

TEST(Utf8, RefusesWhatIsNotWellFormed) {
  for (const char* text : {
           "\x80",          // a continuation alone
           "\xc3",          // cut
           "\xe2\x82",      // cut
           "\xf0\x9f\x98",  // cut
           "\xc0\x80",
           "\xc1\xbf",          // overlong, two bytes
           "\xe0\x80\x80",      // overlong, three
           "\xe0\x9f\xbf",      //
           "\xf0\x80\x80\x80",  // overlong, four
           "\xf0\x8f\xbf\xbf",  //
           "\xed\xa0\x80",      // a surrogate
           "\xed\xbf\xbf",      //
           "\xf4\x90\x80\x80",  // above U+10FFFF
           "\xf5\x80\x80\x80",
           "\xff",  //
           "\xc3(",
           "12345678\xff",
           "\xe2(\xa1",
           "\xf0\x90(\x80",
       }) {
    EXPECT_FALSE(IsValidUtf8(text)) << testing::PrintToString(std::string(text));
  }
}

TEST(Printable, LeavesOrdinaryTextAlone) {
  EXPECT_EQ(Printable("model.layers.0.\u5c42 \"x\""), "model.layers.0.\u5c42 \"x\"");
  EXPECT_EQ(Printable(std::string(100, 'a')), std::string(100, 'a'));
}

TEST(Printable, EscapesControlCharactersAndBrokenUtf8) {
  EXPECT_EQ(Printable("a\nb\x1b[31m\x7f"), "a\\x0ab\\x1b[31m\\x7f");
  EXPECT_EQ(Printable("\u009b"), "\\xc2\\x9b");
  EXPECT_EQ(Printable("\u00a0"), "\u00a0");
  EXPECT_EQ(Printable("\xff|\xe2\x82|"), "\\xff|\\xe2\\x82|");
  EXPECT_EQ(Printable(absl::string_view("\0", 1)), "\\x00");
}

TEST(Printable, CutsLongTextBetweenCharacters) {
  EXPECT_EQ(Printable(std::string(101, 'a')), std::string(100, 'a') + "... (101 bytes)");
  EXPECT_EQ(Printable(std::string(99, 'a') + "\u5c42"), std::string(99, 'a') + "... (102 bytes)");
}

}  // namespace
}  // namespace weightstream
