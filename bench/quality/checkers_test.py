#!/usr/bin/env python3
"""The checks accept what is right and refuse what is wrong."""

import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import sets  # noqa: E402
from checkers import right  # noqa: E402


class Checkers(unittest.TestCase):
    def test_number_is_the_one_after_the_equals_sign(self):
        check = {"type": "number", "value": 42}
        for answer in ("12 + 30 = 42.", "42", "12 + 30 = 42, so 42 apples."):
            self.assertTrue(right(answer, check), answer)
        for answer in ("12 + 30 = 421.", "42 + 1 = 43.", "", "12 + 30 = -42."):
            self.assertFalse(right(answer, check), answer)

    def test_first_number(self):
        self.assertTrue(right("312 is bigger than 45.", {"type": "first_number", "value": 312}))
        self.assertFalse(right("45 is smaller than 312.", {"type": "first_number", "value": 312}))
        self.assertFalse(right("none", {"type": "first_number", "value": 0}))

    def test_contains_takes_whole_words(self):
        self.assertTrue(right("The capital is paris.", {"type": "contains", "all": ["Paris"]}))
        self.assertFalse(right("I do not know now.", {"type": "contains", "all": ["No"]}))
        self.assertFalse(right("It has 142 legs.", {"type": "contains", "all": ["42"]}))
        self.assertFalse(right("one", {"type": "contains", "all": ["one", "two"]}))

    def test_equals_and_starts(self):
        self.assertTrue(right(" a b \n", {"type": "equals", "text": "a b"}))
        self.assertFalse(right("a  b", {"type": "equals", "text": "a b"}))
        self.assertTrue(right("yes, it is.", {"type": "starts", "text": "Yes"}))
        self.assertFalse(right("No. Yes.", {"type": "starts", "text": "Yes"}))

    def test_json(self):
        check = {"type": "json", "value": {"a": 1}}
        self.assertTrue(right('{"a":1}', check))
        for answer in ('{"a": 2}', '{"a": 1', 'Here: {"a": 1}', ""):
            self.assertFalse(right(answer, check), answer)

    def test_calls(self):
        call = {"name": "add", "parameters": {"a": 1, "b": "2"}}
        one = {"type": "calls", "value": [call]}
        two = {"type": "calls", "value": [call, call]}
        self.assertTrue(right(json.dumps(call), one))
        self.assertTrue(right(json.dumps([call]), one))
        self.assertTrue(right(json.dumps([call, call]), two))
        self.assertFalse(right(json.dumps([call, call]), one))
        for answer in (
            "",
            "I add.",
            "Now: " + json.dumps(call),
            '{"name": "add", "parameters": {"a": 1, "b": 2}}',
        ):
            self.assertFalse(right(answer, one), answer)

    def test_story(self):
        check = {"type": "story", "all": ["fox", "lamp"], "sentences": 2}
        self.assertTrue(right("A fox came. It had a lamp.", check))
        self.assertFalse(right("A fox came. It had a lam", check))
        self.assertFalse(right("A fox had a lamp.", check))

    def test_unknown_check_is_an_error(self):
        with self.assertRaises(ValueError):
            right("", {"type": "nothing"})


class Sets(unittest.TestCase):
    def test_every_prompt_has_what_is_needed(self):
        seen = set()
        for name, line in sets.read():
            self.assertIn(line["messages"][-1]["role"], ("user", "tool"), line["id"])
            self.assertGreater(line["max_tokens"], 0)
            right("", line["check"])  # a check of a known kind
            self.assertNotIn(line["id"], seen)
            seen.add(line["id"])
        self.assertGreater(len(seen), 1000)

    def test_table(self):
        table, failures = sets.score(
            [("add", {"check": {"type": "number", "value": 1}})] * 2, ["1", None]
        )
        self.assertEqual(table, {"add": (1, 2)})
        self.assertEqual(len(failures), 1)
        self.assertIn("| add | 2 | 50.0 |", sets.markdown({"x": table}))


if __name__ == "__main__":
    unittest.main()
