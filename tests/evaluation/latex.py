"""A small check of LaTeX tables, for machines without LaTeX."""

import re

COMMANDS = {
    *("begin", "end", "centering", "caption", "label", "small", "scriptsize", "setlength", "tabcolsep", "footnotesize"),
    *("toprule", "midrule", "bottomrule", "multicolumn", "emph", "medskip", "linewidth", "par", "textbackslash"),
    *("dag", "ddag"),
    *(
        "textasciitilde",
        "textasciicircum",
        "pm",
        "times",
        "to",
        "infty",
        "alpha",
        "gamma",
        "theta",
        "varphi",
        "rho",
        "S",
    ),
}


def problems(text: str) -> list[str]:
    """What would stop LaTeX, or shift a table's columns; empty for a sound table that needs booktabs alone."""
    found = [] if text.isascii() else ["not ASCII"]
    body = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("%"))
    found += [f"unknown command \\{name}" for name in re.findall(r"\\([A-Za-z]+)", body) if name not in COMMANDS]
    plain = re.sub(r"\\(\\|[&%$#_{}'])", "", body)  # without what is escaped
    found += ["braces are not balanced"] if not _balanced(plain) else []
    found += ["% in text"] if "%" in plain else []
    found += ["# in text"] if "#" in plain else []
    found += ["odd number of $"] if plain.count("$") % 2 else []
    outside = re.sub(r"\$[^$]*\$|\\label\{[^}]*\}", "", plain)
    found += [f"{c} outside mathematics" for c in "_^<>|" if c in outside]
    environments = re.findall(r"\\(begin|end)\{(\w+)\}", body)
    open_ = []
    for what, name in environments:
        if what == "begin":
            open_.append(name)
        elif not open_ or open_.pop() != name:
            found.append(f"\\end{{{name}}} closes nothing")
    found += [f"{name} is left open" for name in open_]
    return found + _rows(body)


def _balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


def _rows(body: str) -> list[str]:
    """Rows of the tabular that have another number of columns than it declares."""
    tabular = re.search(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", body, re.DOTALL)
    if tabular is None:
        return ["no tabular"]
    found, (columns, inside) = [], tabular.groups()
    for row in re.findall(r"^(.*?)\\\\$", inside, re.MULTILINE):
        width = sum(
            int(span[1]) if (span := re.match(r"\s*\\multicolumn\{(\d+)\}", cell)) else 1
            for cell in re.split(r"(?<!\\)&", row)
        )
        found += [f"{width} of {len(columns)} columns: {row.strip()}"] if width != len(columns) else []
    return found
