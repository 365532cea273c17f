"""Values → what people see: Plotly figures, HTML of tokens, a head's report, the glossary.

In: numbers and examples. Out: figures and HTML. The only importer of Plotly is `attn.show.charts`;
no Streamlit. Imports every floor below; the command line, the notebook and the app import it.
"""
