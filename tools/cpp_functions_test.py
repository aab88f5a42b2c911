"""What tools/cpp_functions.py takes for a function, and where it ends."""

from __future__ import annotations

import unittest

from tools import cpp_functions, python_cases


def found(source: str) -> list[tuple[str, int]]:
    return [(function.name, function.lines) for function in cpp_functions.functions_of(source)]


class FunctionsTest(unittest.TestCase):
    def test_functions_in_namespaces_and_classes_are_found_with_their_lengths(self) -> None:
        source = """
namespace a::b {
class ABSL_LOCKABLE C final : public D {
 public:
  int Get() const noexcept override { return 1; }
 private:
  std::vector<int> v_ = {1, 2};
};
absl::StatusOr<int> C::Make(int x) {
  return x;
}
auto Trailing(int x) -> int {
  return x;
}
}  // namespace
"""
        self.assertEqual(found(source), [("Get", 1), ("C::Make", 3), ("Trailing", 3)])

    def test_branches_loops_and_lambdas_belong_to_the_function_around_them(self) -> None:
        source = "void F() {\n  if (x) {\n    g([&](int) {\n    });\n  }\n  for (;;) {\n  }\n}\nvoid G() {}\n"
        self.assertEqual(found(source), [("F", 8), ("G", 1)])

    def test_braces_in_text_do_not_count(self) -> None:
        source = """#define OPEN {
void F() {
  // {
  /* { */ char c = '{';
  s = "{\\"{";
  r = R"json({"{)json";
}
void G() {}
"""
        self.assertEqual(found(source), [("F", 6), ("G", 1)])

    def test_a_quote_between_digits_begins_no_character(self) -> None:
        self.assertEqual(found("int F() {\n  n = 1'000; if (x) { c = 'a'; }\n}\n"), [("F", 3)])

    def test_a_constructor_with_an_initialiser_list_is_measured_to_its_end(self) -> None:
        self.assertEqual(found("C::C(int x) : a_(x), b_(x) {\n  g();\n}\n"), [("C::C", 3)])
        self.assertEqual(max(lines for _, lines in found("C::C(int x) : a_{x}, b_(x) {\n  g();\n}\n")), 3)

    def test_a_declaration_before_a_function_is_not_part_of_it(self) -> None:
        self.assertEqual(found("enum class E : int;\nvoid F() {\n}\n"), [("F", 2)])

    def test_a_test_is_a_function(self) -> None:
        self.assertEqual(found("TEST(Ranges, Merge) {\n  int x;\n}\n"), [("TEST", 3)])

    def test_templates_and_operators_are_functions(self) -> None:
        self.assertEqual(found("template <class T>\nbool operator==(T a, T b) {\n}\n"), [("operator==", 2)])


if __name__ == "__main__":
    python_cases.main()
