"""A picture of build/bench/bench.json, requests a second and CPU for each row: bench.svg, which README.md shows."""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.path.join(HERE, "..", "..", "build", "bench")
WIDTH, LEFT, BAR, GAP = 900, 260, 13, 12
PARTS = (("nginx", "#7aa6c2"), ("worker", "#e0a458"), ("redis", "#c97b84"))


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")


class Picture:
    def __init__(self):
        self.parts = []
        self.y = 0

    def text(self, x, y, words, anchor="start", weight="normal"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>')

    def bar(self, x, y, width, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{BAR}" fill="{colour}"/>')

    def line(self, x1, x2, y):
        self.parts.append(f'<path d="M{x1:.1f} {y:.1f}H{x2:.1f}M{x1:.1f} {y - 3:.1f}v6M{x2:.1f} {y - 3:.1f}v6" stroke="#333" fill="none"/>')

    def svg(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.y + 10:.0f}" font-family="sans-serif" '
                f'font-size="12" fill="#222"><rect width="100%" height="100%" fill="#fff"/>{"".join(self.parts)}</svg>\n')


def rates(picture, rows):
    picture.y += 30
    picture.text(10, picture.y, "Requests a second: median, least and most", weight="bold")
    scale = (WIDTH - LEFT - 90) / max(row["rate"]["max"] for row in rows)
    for row in rows:
        picture.y += BAR + GAP
        rate = row["rate"]
        picture.text(LEFT - 8, picture.y, row["what"], "end")
        picture.bar(LEFT, picture.y - BAR + 2, rate["median"] * scale, "#6b9e78" if row["letter"] not in "abi" else "#b9b9b9")
        picture.line(LEFT + rate["min"] * scale, LEFT + rate["max"] * scale, picture.y - BAR / 2 + 2)
        picture.text(LEFT + rate["max"] * scale + 8, picture.y, f"{rate['median']:,.0f}")


def costs(picture, rows):
    picture.y += 45
    picture.text(10, picture.y, "CPU microseconds a request", weight="bold")
    for number, (part, colour) in enumerate(PARTS):
        picture.bar(LEFT + 90 * number, picture.y - BAR + 2, 12, colour)
        picture.text(LEFT + 90 * number + 18, picture.y, part)
    scale = (WIDTH - LEFT - 90) / max(row["cpu"]["total"] for row in rows)
    for row in rows:
        picture.y += BAR + GAP
        picture.text(LEFT - 8, picture.y, row["what"], "end")
        x = LEFT
        for part, colour in PARTS:
            picture.bar(x, picture.y - BAR + 2, row["cpu"][part] * scale, colour)
            x += row["cpu"][part] * scale
        picture.text(x + 8, picture.y, f"{row['cpu']['total']:.1f}")


def main():
    try:
        with open(os.path.join(RESULTS, "bench.json"), encoding="utf-8") as file:
            seen = json.load(file)
    except FileNotFoundError:
        return "run `make bench` first: there is no build/bench/bench.json"
    # A whole consent flow is another order of magnitude: it has its place in the table.
    rows = [row for row in seen["rows"].values() if row["letter"] != "h"]
    here = seen["machine"]
    picture = Picture()
    picture.y = 20
    picture.text(10, picture.y, f"{here['cpu']}, {here['cores']} cores, Linux {here['kernel']}, nginx {here['nginx']}; {seen['time'][:10]}")
    rates(picture, rows)
    costs(picture, rows)
    path = os.path.join(HERE, "bench.svg")
    with open(path, "w", encoding="utf-8") as file:
        file.write(picture.svg())
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
