"""The app: a folder a page, and beside them what the pages share. It shows and computes nothing.

In: a person's clicks and a link. Out: pages. The only importer of Streamlit, with `pages/` and
`app.py`; it may import everything below. Importing it loads neither torch nor Plotly.
"""
