"""Problems in DS-1000's schema, written for these tests: none is from the benchmark.

Each has its tests, a reference solution, and wrong solutions with the reason why each is wrong.
"""

from tests.reward_fns.ds1000_schema import Problem, prompt

SCIPY = "import numpy as np\nimport scipy\nimport scipy.sparse\nimport scipy.stats\n"
SCIPY += "import scipy.optimize\nimport scipy.integrate"
SKLEARN = "import numpy as np\nimport pandas as pd\nimport sklearn"

PROBLEMS = [
    Problem(
        "numpy_row_maxima",
        "Numpy",
        prompt("Divide each row of a by its largest entry.", "import numpy as np\na = ..."),
        ["np.array([[1.0, 2], [3, 4]])", "np.random.default_rng(0).random((5, 3)) + 1"],
        "result = a / a.max(axis=1, keepdims=True)",
        "array",
        {
            "by columns": "result = a / a.max(axis=0)",
            "the largest of all": "result = a / a.max()",
            "no result": "b = a",
            "a syntax error": "result = a /",
        },
        unpack="a",
    ),
    Problem(
        "numpy_runs",
        "Numpy",
        prompt("Lengths of the runs of equal values in a.", "import numpy as np\na = ..."),
        ["np.array([1, 1, 2, 2, 2, 1])", "np.array([5])", "np.array([0, 1, 0])"],
        "edges = np.flatnonzero(np.diff(a)) + 1\n"
        "result = np.diff(np.concatenate(([0], edges, [len(a)])))",
        "array",
        {
            "counts values, not runs": "result = np.unique(a, return_counts=True)[1]",
            "right for the first case only": "result = np.array([2, 3, 1])",
        },
        unpack="a",
    ),
    Problem(
        "numpy_no_loops",
        "Numpy",
        prompt("Sum of each window of w entries of a, without loops.", "a, w = ..."),
        ["(np.arange(10.0), 3)", "(np.array([1.0, -1, 1, -1]), 2)"],
        "result = np.lib.stride_tricks.sliding_window_view(a, w).sum(axis=1)",
        "array",
        {
            "right, with a loop": "result = np.array([a[i:i + w].sum() "
            "for i in range(len(a) - w + 1)])",
            "one window too many": "result = np.convolve(a, np.ones(w))",
        },
        unpack="a, w",
        strings=(
            "\nimport io, tokenize\n\ndef test_string(solution: str):\n"
            "    tokens = tokenize.tokenize(io.BytesIO(solution.encode()).readline)\n"
            '    assert not {"for", "while"} & {token.string for token in tokens}\n'
        ),
    ),
    Problem(
        "numpy_function_body",
        "Numpy",
        prompt("Complete the function: points of a inside the unit circle.", "def f(a):"),
        ["np.array([[0.0, 0.5], [2, 0], [0.6, 0.6]])"],
        "    squares = (a ** 2).sum(axis=1)\n    return a[squares <= 1]",
        "array",
        {
            "returns nothing": "    a ** 2",
            "the points outside": "return a[(a ** 2).sum(axis=1) > 1]",
        },
        unpack="a",
        body="def f(a):\n[insert]\nresult = f(a)",
        reference_answer="return a[(a ** 2).sum(axis=1) <= 1]",
    ),
    Problem(
        "pandas_last_of_group",
        "Pandas",
        prompt("Keep the last row of each user, by user.", "import pandas as pd\ndf = ..."),
        [
            'pd.DataFrame({"user": ["b", "a", "b"], "x": [1, 2, 3]})',
            'pd.DataFrame({"user": list("zzyyx"), "x": range(5), "t": pd.date_range("2024", '
            "periods=5)})",
        ],
        'result = df.drop_duplicates("user", keep="last").sort_values("user")'
        ".reset_index(drop=True)",
        "frame",
        {
            "the first row": 'result = df.drop_duplicates("user").sort_values("user")'
            ".reset_index(drop=True)",
            "the index is kept": 'result = df.drop_duplicates("user", keep="last")'
            '.sort_values("user")',
            "no DataFrame": 'result = df.drop_duplicates("user", keep="last").values',
        },
    ),
    Problem(
        "pandas_pivot_share",
        "Pandas",
        prompt("Share of each kind in the sum of its day, days as rows.", "df = ..."),
        [
            'pd.DataFrame({"day": [1, 1, 2], "kind": list("aba"), "n": [1, 3, 5]})',
            'pd.DataFrame({"day": [3, 4, 4], "kind": list("xyx"), "n": [2, 2, 2]})',
        ],
        'table = df.pivot_table(index="day", columns="kind", values="n", aggfunc="sum", '
        "fill_value=0)\nresult = table.div(table.sum(axis=1), axis=0)",
        "frame",
        {
            "share of the kind": 'table = df.pivot_table(index="day", columns="kind", values="n", '
            'aggfunc="sum", fill_value=0)\nresult = table / table.sum()',
            "missing kinds are NaN": 'table = df.pivot(index="day", columns="kind", values="n")\n'
            "result = table.div(table.sum(axis=1), axis=0)",
        },
    ),
    Problem(
        "pandas_resample",
        "Pandas",
        prompt("Mean of s in each week (ending Sunday), weeks without data dropped.", "s = ..."),
        [
            'pd.Series(np.arange(20.0), index=pd.date_range("2024-01-01", periods=20))',
            'pd.Series([1.0, 2.0], index=pd.to_datetime(["2024-03-01", "2024-04-01"]))',
        ],
        'result = s.resample("W").mean().dropna()',
        "series",
        {
            "the sum": 'result = s.resample("W").sum()',
            "weeks end on Monday": 'result = s.resample("W-MON").mean().dropna()',
        },
        unpack="s",
    ),
    Problem(
        "pandas_category",
        "Pandas",
        prompt("Cut x into low (up to 1), mid (up to 2), high; as a Series.", "df = ..."),
        ['pd.DataFrame({"x": [0.5, 1.0, 1.5, 9.0]})', 'pd.DataFrame({"x": [3.0]})'],
        'result = pd.cut(df["x"], [-np.inf, 1, 2, np.inf], labels=["low", "mid", "high"])',
        "series",
        {
            "borders belong to the right": 'result = pd.cut(df["x"], [-np.inf, 1, 2, np.inf], '
            'labels=["low", "mid", "high"], right=False)',
            "strings, no categories": 'result = pd.cut(df["x"], [-np.inf, 1, 2, np.inf], '
            'labels=["low", "mid", "high"]).astype(str)',
        },
    ),
    Problem(
        "scipy_sparse_rows",
        "Scipy",
        prompt("Scale each row of the sparse M to sum 1; rows of zeros stay.", "M = ..."),
        [
            "scipy.sparse.csr_matrix([[1.0, 3], [0, 0]])",
            "scipy.sparse.random(6, 5, 0.5, format='csr', random_state=0)",
        ],
        "sums = np.asarray(M.sum(axis=1)).ravel()\nsums[sums == 0] = 1\n"
        "result = scipy.sparse.diags(1 / sums) @ M",
        "sparse",
        {
            "dense": "result = M.toarray() / np.maximum(M.toarray().sum(axis=1, keepdims=True), 1)",
            "all rows together": "result = M / M.sum()",
        },
        unpack="M",
        imports=SCIPY,
    ),
    Problem(
        "scipy_root",
        "Scipy",
        prompt("The x in [0, 3] with x exp(x) = c.", "c = ..."),
        ["1.0", "10.0"],
        "result = scipy.optimize.brentq(lambda x: x * np.exp(x) - c, 0, 3)",
        "array",
        {"its logarithm": "result = np.log(c)", "a function": "result = lambda x: x"},
        unpack="c",
        imports=SCIPY,
    ),
    Problem(
        "scipy_test",
        "Scipy",
        prompt("p value of Welch's t test of a and b.", "a, b = ..."),
        ["(np.arange(5.0), np.arange(7.0) ** 2)"],
        "result = scipy.stats.ttest_ind(a, b, equal_var=False).pvalue",
        "array",
        {
            "equal variances": "result = scipy.stats.ttest_ind(a, b).pvalue",
            "the statistic": "result = scipy.stats.ttest_ind(a, b, equal_var=False).statistic",
        },
        unpack="a, b",
        imports=SCIPY,
    ),
    Problem(
        "sklearn_scaled_coefficients",
        "Sklearn",
        prompt("Coefficients of a linear regression of y on the standardised X.", "X, y = ..."),
        [
            "(np.arange(12.0).reshape(6, 2) ** 2, np.arange(6.0))",
            "(np.random.default_rng(1).random((8, 3)), np.arange(8.0))",
        ],
        "from sklearn.linear_model import LinearRegression\n"
        "from sklearn.preprocessing import StandardScaler\n"
        "result = LinearRegression().fit(StandardScaler().fit_transform(X), y).coef_",
        "array",
        {
            "not standardised": "from sklearn.linear_model import LinearRegression\n"
            "result = LinearRegression().fit(X, y).coef_",
            "the model itself": "from sklearn.linear_model import LinearRegression\n"
            "result = LinearRegression().fit(X, y)",
        },
        unpack="X, y",
        imports=SKLEARN,
    ),
    Problem(
        "sklearn_vocabulary",
        "Sklearn",
        prompt("Sorted words of the corpus with two letters or more.", "corpus = ..."),
        ['["a bee sees", "bees see a bee"]', '["x yy"]'],
        "from sklearn.feature_extraction.text import CountVectorizer\n"
        "result = CountVectorizer().fit(corpus).get_feature_names_out().tolist()",
        "equal",
        {
            "single letters too": "result = sorted({w for line in corpus for w in line.split()})",
            "not sorted": "result = [w for line in corpus for w in line.split() if len(w) > 1]",
        },
        unpack="corpus",
        imports=SKLEARN,
    ),
    Problem(
        "sklearn_split_order",
        "Sklearn",
        prompt("Test indices of the first of 3 shuffled folds of X, random_state 7.", "X = ..."),
        ["np.arange(10).reshape(10, 1)"],
        "from sklearn.model_selection import KFold\n"
        "folds = KFold(3, shuffle=True, random_state=7)\nresult = next(folds.split(X))[1]",
        "array",
        {
            "not shuffled": "from sklearn.model_selection import KFold\n"
            "result = next(KFold(3).split(X))[1]",
            "the training part": "from sklearn.model_selection import KFold\n"
            "result = next(KFold(3, shuffle=True, random_state=7).split(X))[0]",
        },
        unpack="X",
        imports=SKLEARN,
    ),
]
